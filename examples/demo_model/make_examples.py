"""Draw examples/scenes.jsonl and its pictures: ten scenes, each with a right caption and two wrong ones.

    python examples/demo_model/make_examples.py

They are the first ten scenes of the seed.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from scenes import draw, random_example

EXAMPLES = Path(__file__).parent.parent
SEED = 20_261_123
SCENES = 10


def main() -> None:
    """Write the files."""
    rng = random.Random(SEED)
    (EXAMPLES / "scenes").mkdir(exist_ok=True)
    rows = []
    for number in range(1, SCENES + 1):
        example = random_example(rng)
        path = f"scenes/{number:02}.png"
        draw(rng, example.scene).save(EXAMPLES / path, optimize=True)
        for caption, text in (("right", example.right), ("wrong early", example.early), ("wrong late", example.late)):
            rows.append({"image_path": path, "caption": caption, "text": text})
    content = "".join(json.dumps(row) + "\n" for row in rows)
    (EXAMPLES / "scenes.jsonl").write_text(content)


if __name__ == "__main__":
    main()
