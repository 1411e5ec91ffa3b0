"""Print the scores of scenes.jsonl as a table: for each picture, its right caption and two wrong ones.

longclip-score examples/scenes.jsonl --image-root examples --model demo -o scored.jsonl
python examples/compare.py scored.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

CAPTIONS = ("right", "wrong early", "wrong late")


def main(path: str) -> None:
    """Print the table of a scored file."""
    pictures: dict[str, dict[str, float]] = {}
    for line in Path(path).read_text().splitlines():
        row = json.loads(line)
        pictures.setdefault(row["image_path"], {})[row["caption"]] = row["clip_score"]
    print("picture         " + "".join(f"{caption:>13}" for caption in CAPTIONS))
    wins = comparisons = 0
    for name, scores in pictures.items():
        right, *wrong = (scores[caption] for caption in CAPTIONS)
        wins += sum(right > score for score in wrong)
        comparisons += len(wrong)
        print(f"{name:<16}" + "".join(f"{score:13.4f}" for score in (right, *wrong)))
    print(f"The right caption scores higher in {wins} of {comparisons} comparisons.")
    print("'Wrong late' differs from 'right' only past token 77, where CLIP stops reading.")


if __name__ == "__main__":
    main(*sys.argv[1:])
