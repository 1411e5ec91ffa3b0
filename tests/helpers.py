"""What the tests share: paths, rows, tolerances, small files, and ways to run the installed command."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longclip_cli.jobs.recorded_output import RecordedOutput
from longclip_cli.jobs.run_record import RunRecord
from longclip_cli.storage.target import open_output

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PICTURES = EXAMPLES / "pictures"
GOLDEN = ROOT / "tests" / "golden"
IMAGES = GOLDEN / "images"
COMMAND = Path(sys.executable).with_name("longclip-score")
CPU = torch.device("cpu")
MEBIBYTE = 2**20
TIMEOUT = 120  # seconds, after which something that should happen has not
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"  # as the command writes it, as a pattern
# Decoders differ a little in what they make of these.
LOSSY = {"photo.jpg", "progressive.jpg", "cmyk.jpg", "gray.jpg", "exif_rotated.jpg", "lossy.webp"}
ROW = {"image_path": str(IMAGES / "rgb.png"), "text": "A cat"}
MISSING = {"image_path": "missing.png", "text": "A cat"}
# No test may reach the network, nor depend on what the person who runs it has set.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LONGCLIP_", "HF_"))}
ENVIRONMENT |= {"HF_HUB_OFFLINE": "1"}

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or counts memory as Linux does")


def load_checkpoint_maker():
    """The script beside the golden scores that builds the checkpoint they belong to."""
    spec = importlib.util.spec_from_file_location("make_checkpoint", GOLDEN / "make_checkpoint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse_jsonl(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.split(b"\n") if line]


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def golden_rows(name: str) -> list[dict[str, Any]]:
    return parse_jsonl((GOLDEN / name).read_bytes())


def golden_score(row: dict[str, Any]):
    """The original's score of a golden row, which equals any score within its tolerance."""
    return pytest.approx(row["clip_score"], abs=1e-4 if row["image_path"] in LOSSY else 2e-6)


def rows_of(count: int) -> list[dict[str, Any]]:
    """The golden pairs and a row that fails, again and again, each with its own id."""
    rows = [row | {"image_path": str(IMAGES / row["image_path"])} for row in golden_rows("pairs.jsonl")] + [MISSING]
    return [rows[i % len(rows)] | {"id": i} for i in range(count)]


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def encoded_image(image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """The bytes of a Parquet file."""
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


COMPARED = {"input": "in.jsonl", "text_key": "text", "precision": "fp32", "model_hash": "hash"}
COMPARED |= {"output_format": "1", "version": "0"}
RECORD = RunRecord(COMPARED, start="2026-01-01T00:00:00+00:00", model="model")


def changed(record: RunRecord, model: str = "model", **compared: str) -> RunRecord:
    """The record of a run that differs."""
    return replace(record, model=model, compared={**record.compared, **compared})


def recorded(path: Path) -> RecordedOutput:
    return RecordedOutput(open_output(str(path)))


def leave_partial(path: Path, content: bytes, record: RunRecord = RECORD) -> None:
    """Leave a partial output and its record, as a run that an error has ended."""
    with pytest.raises(ZeroDivisionError), recorded(path) as output:
        output.begin(record)
        output.write(content)
        raise ZeroDivisionError


def longclip_score(
    *arguments: object, input: bytes | str = b"", environment: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs the installed command to its end."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        input=input.encode() if isinstance(input, str) else input,
        capture_output=True,
        env=ENVIRONMENT | (environment or {}),
        cwd=cwd,
        timeout=300,
        check=False,
    )


def run_python(code: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Runs Python code in a new process; its standard input is empty."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, input=b"", capture_output=True, env=ENVIRONMENT, cwd=cwd, timeout=TIMEOUT, check=False
    )


def shell(folder, line, command=COMMAND):
    """Runs a line of bash, in which `score` is the command; its standard input is empty."""
    return subprocess.run(
        ["bash", "-c", f'score() {{ "{command}" "$@"; }}; {line}'],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )


def start_longclip_score(*arguments: object, **streams: Any) -> subprocess.Popen[bytes]:
    """Starts the installed command, with pipes unless other streams are given."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, **({"preexec_fn": hear_signals} | pipes | streams))


def hear_signals() -> None:
    """Undoes what `nohup`, or a shell that runs the tests in the background, hands down: signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until(condition, process=None):
    """Waits for a condition, or for the end of a process."""
    deadline = time.monotonic() + TIMEOUT
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def size_of(path: Path) -> int:
    """The size of a file, 0 if it is not there."""
    return path.stat().st_size if path.exists() else 0


def resident_bytes(pid: int) -> int:
    """The memory a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])
