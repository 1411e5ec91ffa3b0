"""Run longclip-score and the scripts it is compared with in processes, and measure each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("longclip-score")
ENVIRONMENT = os.environ | {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True)
class ToolRun:
    """What a run of longclip-score took: seconds with the model loaded, `spent` by activity, and peak memory."""

    rows: int
    seconds: float
    spent: dict[str, float]
    peak_bytes: int
    scores: list[float]

    @property
    def ms(self) -> float:
        """Return the milliseconds per pair."""
        return 1000 * self.seconds / self.rows


def run_tool(rows: Path, model: Path, *options: object) -> ToolRun:
    """Score rows with longclip-score."""
    output, summary = rows.with_suffix(".scored"), rows.with_suffix(".summary")
    arguments = [COMMAND, rows, "-m", model, "-o", output, "--summary", summary, "-q", *options]
    process = subprocess.Popen([str(argument) for argument in arguments], env=ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"longclip-score failed: {arguments}")
    spent: dict[str, float] = json.loads(summary.read_text())["seconds"]
    spent.pop("loading the model")
    scores = [json.loads(line)["clip_score"] for line in output.read_text().splitlines()]
    return ToolRun(len(scores), sum(spent.values()), spent, usage.ru_maxrss * 1024, scores)


def run_script(name: str, *arguments: object) -> Any:
    """Run a script of this folder, and return its last line, parsed as JSON."""
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    printed = subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(printed.splitlines()[-1])


def seconds_to_first_line(command: list[object]) -> float:
    """Return the seconds from a command's start to its first line; wait for its end, too."""
    start = time.perf_counter()
    with subprocess.Popen([str(part) for part in command], env=ENVIRONMENT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        return time.perf_counter() - start
