"""Draw the picture of the README: a scene, its right caption and a wrong one, with the scores of both.

    python examples/draw_picture.py docs/images/scene.png

The wrong caption differs from the right one only past token 77, where CLIP stops reading.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from longclip_cli import LongCLIPScorer
from longclip_cli.models.tokenizer import tokenize

EXAMPLES = Path(__file__).parent
SCENE = "scenes/04.png"
CLIP_CONTEXT_LENGTH = 77
# In pixels. GitHub shows the picture at about half its size.
WIDTH, HEIGHT, MARGIN, SCENE_SIDE = 1640, 756, 48, 560
TEXT_LEFT, CAPTION_TOPS = MARGIN + SCENE_SIDE + 48, (40, 398)
TEXT_SIZE, LINE_HEIGHT = 29, 39
# The card is light on any page, so that it is legible in GitHub's dark theme, too.
CARD, BORDER, INK, GREY = "#ffffff", "#d0d7de", "#1f2328", "#59636e"
GREEN, RED = ("#116329", "#b4ebc0"), ("#a40e26", "#ffc8c4")  # of words, and of the paper behind them


def captions(scene: str) -> tuple[str, str]:
    """Return the right caption of a scene, and the one that is wrong past token 77."""
    rows = [json.loads(line) for line in (EXAMPLES / "scenes.jsonl").read_text().splitlines()]
    texts = {row["caption"]: row["text"] for row in rows if row["image_path"] == scene}
    return texts["right"], texts["wrong late"]


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that Pillow carries, so that no machine's own fonts are needed."""
    chosen = ImageFont.load_default(size)
    assert isinstance(chosen, ImageFont.FreeTypeFont), "this Pillow was built without FreeType"
    return chosen


def changed_words(text: str, other: str) -> set[int]:
    """Return the positions of the words of `text` that are not in `other`."""
    matcher = SequenceMatcher(None, text.split(), other.split(), autojunk=False)
    return {i for tag, begin, end, *_ in matcher.get_opcodes() if tag != "equal" for i in range(begin, end)}


def words_clip_reads(words: list[str]) -> int:
    """Return how many of the words fit into CLIP's 77 tokens."""
    fitting = (n for n in range(len(words), 0, -1) if not tokenize(" ".join(words[:n]), CLIP_CONTEXT_LENGTH).is_cut)
    return next(fitting)


def placed(words: list[str], top: int) -> Iterator[tuple[int, int]]:
    """Yield the left upper corner of each word, in lines that end before the right margin."""
    left, space = float(TEXT_LEFT), font(TEXT_SIZE).getlength(" ")
    for word in words:
        width = font(TEXT_SIZE).getlength(word)
        if left + width > WIDTH - MARGIN:
            left, top = TEXT_LEFT, top + LINE_HEIGHT
        yield round(left), top
        left += width + space


def draw_caption(
    draw: ImageDraw.ImageDraw, top: int, label: str, score: float, text: str, marked: set[int], colours: tuple[str, str]
) -> None:
    """Draw a score and its caption, with the marked words in colour and a bar at token 77."""
    (ink, paper), words, text_font = colours, text.split(), font(TEXT_SIZE)
    draw.text((TEXT_LEFT, top), f"{score:.3f}", ink, font(60))
    draw.text((TEXT_LEFT + 190, top + 25), label, ink, font(30))
    bar = words_clip_reads(words)
    for i, (left, upper) in enumerate(placed(words, top + 90)):
        if i in marked:
            right = left + text_font.getlength(words[i] + " " * (i + 1 in marked))
            draw.rectangle((left - 3, upper - 2, right + 3, upper + 35), paper)
        if i == bar:
            draw.line((left - 5, upper - 3, left - 5, upper + 36), GREY, 3)
        draw.text((left, upper), words[i], ink if i in marked else INK, text_font)


def main(target: str) -> None:
    """Score both captions with the built-in model, and write the picture."""
    right, wrong = captions(SCENE)
    scores = LongCLIPScorer.from_pretrained("demo", "cpu").score([EXAMPLES / SCENE] * 2, [right, wrong])
    card = Image.new("RGBA", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((1, 1, WIDTH - 2, HEIGHT - 2), 24, CARD, BORDER, 2)
    with Image.open(EXAMPLES / SCENE) as scene:
        card.paste(scene.convert("RGB").resize((SCENE_SIDE, SCENE_SIDE), Image.Resampling.LANCZOS), (MARGIN, MARGIN))
    note = "The bar marks token 77, where CLIP\nstops reading. LongCLIP reads 248 tokens."
    draw.multiline_text((MARGIN, MARGIN + SCENE_SIDE + 24), note, GREY, font(28), spacing=10)
    (top, lower), labels = CAPTION_TOPS, ("right caption", "wrong caption")
    draw_caption(draw, top, labels[0], scores[0], right, changed_words(right, wrong), GREEN)
    draw_caption(draw, lower, labels[1], scores[1], wrong, changed_words(wrong, right), RED)
    card.save(target, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
