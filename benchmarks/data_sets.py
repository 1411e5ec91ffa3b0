"""Compare a data set in other forms with the same pairs in one file of plain rows.

The forms are many files, lists of captions, and Parquet files and archives that hold the images themselves. For these
the network is a tiny one, so that reading and decoding is what counts. Each measurement is a run of the command, and
only one runs at a time. Alternatives run alternately, and the best round of each counts; loading the model does not.
The table is in Markdown.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet
from corpus import captions, write_checkpoint, write_photographs
from processes import COMMAND, ENVIRONMENT

ROWS, FILES, CAPTIONS, UNIQUE = 1000, 20, 5, 600


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows with the bytes of their images in place of the paths."""
    images = [Path(row["image_path"]).read_bytes() for row in rows]
    table = pyarrow.table({"image_path": images, "text": [row["text"] for row in rows]})
    pyarrow.parquet.write_table(table, path, row_group_size=1000, write_batch_size=16)


def write_archive(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as samples of a JPEG file and a text."""
    with tarfile.open(path, "w") as archive:
        for number, row in enumerate(rows):
            for extension, content in (("jpg", Path(row["image_path"]).read_bytes()), ("txt", row["text"].encode())):
                member = tarfile.TarInfo(f"{number:06}.{extension}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


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
        write_photographs(photographs, max(UNIQUE, arguments.rows // CAPTIONS))
        images = sorted(photographs.iterdir())
        texts = captions(max(UNIQUE, arguments.rows), 60)
        rows = [{"image_path": str(images[i // CAPTIONS]), "text": texts[i]} for i in range(arguments.rows)]
        lists = [
            {"image_path": str(images[i]), "text": texts[CAPTIONS * i : CAPTIONS * (i + 1)]}
            for i in range(arguments.rows // CAPTIONS)
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
        tiny = str(write_checkpoint(folder, "tiny"))
        unique = [{"image_path": str(image), "text": text} for image, text in zip(images, texts, strict=False)]
        write(folder / "unique.jsonl", unique)
        write_parquet(folder / "unique.parquet", unique)
        write_archive(folder / "unique.tar", unique)
        plain = (folder / "unique.jsonl", out / "unique.jsonl")
        for name in ("unique.parquet", "unique.tar"):
            embedded = (folder / name, (out / name).with_suffix(".scored.jsonl"))
            compare(f"JPEG files in {name}", plain, embedded, tiny, arguments.rounds)


if __name__ == "__main__":
    main()
