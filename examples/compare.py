"""Prints scored rows of scenes.jsonl as a table, a line for each picture: the right caption against the wrong ones.

longclip-score examples/scenes.jsonl --image-root examples --model demo | python examples/compare.py
"""

from __future__ import annotations

import json
import sys

CAPTIONS = ("right", "wrong early", "wrong late")


def main() -> None:
    """Reads rows from standard input."""
    pictures: dict[str, dict[str, float]] = {}
    for line in sys.stdin:
        row = json.loads(line)
        pictures.setdefault(row["image_path"], {})[row["caption"]] = row["clip_score"]
    print("picture         " + "".join(f"{caption:>13}" for caption in CAPTIONS))
    wins = comparisons = 0
    for path, scores in pictures.items():
        right, *wrong = (scores[caption] for caption in CAPTIONS)
        wins += sum(right > score for score in wrong)
        comparisons += len(wrong)
        print(f"{path:<16}" + "".join(f"{score:13.4f}" for score in (right, *wrong)))
    print(f"The right caption scores higher in {wins} of {comparisons} comparisons.")
    print("'Wrong late' differs only past token 77, where CLIP no longer reads.")


if __name__ == "__main__":
    main()
