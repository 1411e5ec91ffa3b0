"""Compare a data set in many files, or with lists of captions, with the same pairs in one file of plain rows.

Each measurement is a run of the command, and only one runs at a time. Alternatives run alternately, and the best round
of each counts; loading the model does not. The table is in Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus import captions, write_checkpoint, write_photographs
from processes import COMMAND, ENVIRONMENT

ROWS, FILES, CAPTIONS = 1000, 20, 5


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def seconds(source: Path, output: Path, model: str) -> float:
    """Return the seconds of a run without loading the model."""
    summary = output.parent / "summary.json"
    command = [COMMAND, source, "-o", output, "-m", model, "-q", "--summary", summary]
    subprocess.run([str(part) for part in command], env=ENVIRONMENT, check=True)
    spent: dict[str, float] = json.loads(summary.read_text())["seconds"]
    return sum(spent.values()) - spent["loading the model"]


def compare(name: str, one: tuple[Path, Path], other: tuple[Path, Path], model: str, rounds: int) -> None:
    """Print how long two runs take, and their ratio."""
    times: list[tuple[float, float]] = [(seconds(*other, model), seconds(*one, model)) for _ in range(rounds)]
    changed, plain = (min(column) for column in zip(*times, strict=True))
    print(f"| {name} | {plain:.2f} s | {changed:.2f} s | {changed / plain:.3f} |", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo", help="checkpoint, or ViT-B/16 for random weights")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs, files, out = folder / "photographs", folder / "files", folder / "out"
        for path in (photographs, files, out):
            path.mkdir()
        write_photographs(photographs, arguments.rows // CAPTIONS)
        images = sorted(photographs.iterdir())
        texts = captions(arguments.rows, 60)
        rows = [{"image_path": str(images[i // CAPTIONS]), "text": text} for i, text in enumerate(texts)]
        lists = [
            {"image_path": str(image), "text": texts[CAPTIONS * i : CAPTIONS * (i + 1)]}
            for i, image in enumerate(images)
        ]
        write(folder / "rows.jsonl", rows)
        write(folder / "lists.jsonl", lists)
        size = arguments.rows // FILES
        for i in range(FILES):
            write(files / f"{i:02}.jsonl", rows[size * i : size * (i + 1)])
        model = str(write_checkpoint(folder, arguments.model)) if arguments.model.startswith("ViT") else arguments.model
        plain = (folder / "rows.jsonl", out / "rows.jsonl")
        print("| compared with plain rows | plain | changed | ratio |\n|---|---|---|---|")
        compare(
            f"{CAPTIONS} captions as a list",
            plain,
            (folder / "lists.jsonl", out / "lists.jsonl"),
            model,
            arguments.rounds,
        )
        compare(f"{FILES} files", plain, (files, out / "files"), model, arguments.rounds)


if __name__ == "__main__":
    main()
