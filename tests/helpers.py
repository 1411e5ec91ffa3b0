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
import tarfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.jsonl import Record
from longclip_cli.jobs.recorded_output import RecordedOutput
from longclip_cli.jobs.run_record import RunRecord
from longclip_cli.rows import Row
from longclip_cli.scorer import LongCLIPScorer
from longclip_cli.storage.output_file import open_output

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PICTURES = EXAMPLES / "pictures"
GOLDEN = ROOT / "tests" / "golden"
IMAGES = GOLDEN / "images"
COMMAND = Path(sys.executable).with_name("longclip-score")
CPU = torch.device("cpu")
MEBIBYTE = 2**20
TIMEOUT = 120  # seconds until a wait has failed
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"  # the pattern of a time as the command writes it
# Versions of the decoders differ slightly in the pixels of these.
LOSSY = {"photo.jpg", "progressive.jpg", "cmyk.jpg", "gray.jpg", "exif_rotated.jpg", "lossy.webp"}
ROW = {"image_path": str(IMAGES / "rgb.png"), "text": "A cat"}
SIDE_FILES = (".partial", ".partial.new", ".partial.lock", ".run.json")  # behind the name of an output
MISSING = {"image_path": "missing.png", "text": "A cat"}
# Tests neither reach the network nor depend on settings of the person who runs them.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LONGCLIP_", "HF_"))}
ENVIRONMENT |= {"HF_HUB_OFFLINE": "1"}

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, /dev/full or memory counted as on Linux")


def load_checkpoint_maker():
    """Import the script that builds the checkpoint of the golden scores."""
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
    """Return the original's score of a golden row; it equals any score within the tolerance."""
    return pytest.approx(row["clip_score"], abs=1e-4 if row["image_path"] in LOSSY else 2e-6)


def scores_of_golden_rows(model: object) -> list[float]:
    """Return the scores that the Python API gives to the golden pairs."""
    rows = golden_rows("pairs.jsonl")
    scorer = LongCLIPScorer.from_pretrained(str(model), "cpu", "fp32")
    return scorer.score([IMAGES / row["image_path"] for row in rows], [row["text"] for row in rows])


def rows_of(count: int) -> list[dict[str, Any]]:
    """Return the golden pairs and a row that fails, repeated, each row with its own id."""
    rows = [row | {"image_path": str(IMAGES / row["image_path"])} for row in golden_rows("pairs.jsonl")] + [MISSING]
    return [rows[i % len(rows)] | {"id": i} for i in range(count)]


def jsonl_row(content: bytes = b"{}\n", offset: int = 0) -> Row:
    """Return a row that was read from this line, for code that looks at neither its image nor its text."""
    return Row(1, RowError(Reason.UNEXPECTED), Record(content, ()), offset, is_terminated=content.endswith(b"\n"))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def encoded_image(image, kind: str, **options: Any) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """Return the bytes of a Parquet file."""
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def tar_of(members: Any) -> bytes:
    """Return the bytes of a tar archive, from a dict or pairs of names and contents."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items() if isinstance(members, dict) else members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


COMPARED = {"input": "in.jsonl", "text_key": "text", "precision": "fp32", "model_hash": "hash"}
COMPARED |= {"output_format": "1", "version": "0"}
RECORD = RunRecord(COMPARED, start="2026-01-01T00:00:00+00:00", model="model")


def changed(record: RunRecord, model: str = "model", **compared: str) -> RunRecord:
    """Return the record of a run that differs."""
    return replace(record, model=model, compared={**record.compared, **compared})


def recorded(path: Path) -> RecordedOutput:
    return RecordedOutput(open_output(str(path)))


def leave_partial(path: Path, content: bytes, record: RunRecord = RECORD) -> None:
    """Leave a partial output and its record, as a run that ends with an error."""
    with pytest.raises(ZeroDivisionError), recorded(path) as output:
        output.begin(record)
        output.write(content)
        raise ZeroDivisionError


def longclip_score(
    *arguments: object, input: bytes | str = b"", environment: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the installed command to its end."""
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
    """Run Python code in a new process with an empty standard input."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, input=b"", capture_output=True, env=ENVIRONMENT, cwd=cwd, timeout=TIMEOUT, check=False
    )


def shell(folder, line, command=COMMAND):
    """Run a line of bash, in which `score` is the command, with an empty standard input."""
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
    """Start the installed command, with pipes unless other streams are given."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, **({"preexec_fn": hear_signals} | pipes | streams))


def hear_signals() -> None:
    """Restore signals that are ignored because the tests run under `nohup` or in the background."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until(condition, process=None):
    """Wait for a condition, or for the end of a process."""
    deadline = time.monotonic() + TIMEOUT
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def size_of(path: Path) -> int:
    """Return the size of a file, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])
