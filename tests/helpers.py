"""What the tests share: paths, the golden rows, and ways to run the installed command."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
PICTURES = Path(__file__).parent.parent / "examples" / "pictures"
COMMAND = Path(sys.executable).with_name("longclip-score")
SECONDS = 120  # after which something that should happen has not
# Decoders differ a little in what they make of these.
LOSSY = {"photo.jpg", "progressive.jpg", "cmyk.jpg", "gray.jpg", "exif_rotated.jpg", "lossy.webp"}
# No test may reach the network, nor depend on what the person who runs it has set.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LONGCLIP_", "HF_"))}
ENVIRONMENT |= {"HF_HUB_OFFLINE": "1"}


def load_checkpoint_maker():
    """The script beside the golden scores that builds the checkpoint they belong to."""
    spec = importlib.util.spec_from_file_location("make_checkpoint", GOLDEN / "make_checkpoint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse_jsonl(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.split(b"\n") if line]


def golden_rows(name: str) -> list[dict[str, Any]]:
    return parse_jsonl((GOLDEN / name).read_bytes())


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


def shell(folder, line, command=COMMAND):
    """Runs a line of bash, in which `score` is the command; its standard input is empty."""
    return subprocess.run(
        ["bash", "-c", f'score() {{ "{command}" "$@"; }}; {line}'],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


def start_longclip_score(*arguments: object, **streams: Any) -> subprocess.Popen[bytes]:
    """Starts the installed command, with pipes unless other streams are given."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, **({"preexec_fn": hear_signals} | pipes | streams))


def wait_until(condition, process=None):
    deadline = time.monotonic() + SECONDS
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def hear_signals() -> None:
    """Undoes what `nohup`, or a shell that runs the tests in the background, hands down: signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def resident_bytes(pid: int) -> int:
    """The memory a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])
