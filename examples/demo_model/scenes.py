"""Make scenes of coloured shapes, their pictures and their captions from a seeded generator.

A scene is a coloured background with groups of one to three equal shapes in some of the nine fields of a
three by three grid. Its long caption has one sentence for the background and one for each group, in any order, between
sentences without information. So the facts of a scene are spread over 80 to 220 tokens.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from longclip_cli.models.tokenizer import tokenize

COLOURS = {
    "red": (214, 32, 38),
    "orange": (245, 135, 20),
    "yellow": (250, 220, 30),
    "green": (30, 150, 60),
    "blue": (30, 70, 200),
    "purple": (130, 40, 160),
    "black": (15, 15, 15),
    "white": (252, 252, 252),
}
BACKGROUNDS = {
    "grey": (158, 158, 158),
    "beige": (225, 205, 165),
    "pink": (245, 175, 195),
    "turquoise": (100, 205, 205),
    "brown": (120, 80, 50),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PLURALS = {"cross": "crosses"}
SIZES = {"small": 0.14, "large": 0.235}  # half the shape's extent, in fields
COUNTS = {"one": 1, "two": 2, "three": 3}
PLACES = (
    "top left",
    "top middle",
    "top right",
    "middle left",
    "centre",
    "middle right",
    "bottom left",
    "bottom middle",
    "bottom right",
)
# Centres of the shapes of a group in its field, by how many there are.
LAYOUTS = {
    1: ((0.5, 0.5),),
    2: ((0.26, 0.5), (0.74, 0.5)),
    3: ((0.26, 0.73), (0.74, 0.73), (0.5, 0.26)),
}
PICTURE_SIZE = 288  # pixels
MIN_TOKENS, MAX_TOKENS = 80, 220


@dataclass(frozen=True)
class Group:
    """One to three equal shapes in one field of the grid."""

    place: str
    count: str
    size: str
    colour: str
    shape: str

    def phrase(self) -> str:
        """Return the words for the group, such as `two small red stars`."""
        shape = self.shape if self.count == "one" else PLURALS.get(self.shape, f"{self.shape}s")
        return f"{self.count} {self.size} {self.colour} {shape}"


@dataclass(frozen=True)
class Scene:
    """A background and the groups on it, each in its own field."""

    background: str
    groups: tuple[Group, ...]


def random_scene(rng: random.Random) -> Scene:
    """Return a scene of four to six groups."""
    places = rng.sample(PLACES, rng.randint(4, 6))
    return Scene(rng.choice(list(BACKGROUNDS)), tuple(random_group(rng, place) for place in places))


def random_group(rng: random.Random, place: str) -> Group:
    """Return a random group for a place."""
    return Group(
        place, rng.choice(list(COUNTS)), rng.choice(list(SIZES)), rng.choice(list(COLOURS)), rng.choice(SHAPES)
    )


def change_one_attribute(rng: random.Random, scene: Scene, index: int | None = None) -> Scene:
    """Return the scene with one change: an attribute of one group (`index`, or a random one), or the background.

    The group keeps its number, so that the captions of both scenes differ in one place.
    """
    if index is None:
        index = rng.randrange(-1, len(scene.groups))
    if index < 0:
        return replace(scene, background=other(rng, list(BACKGROUNDS), scene.background))
    group = scene.groups[index]
    taken = {other_group.place for other_group in scene.groups}
    attribute, values = rng.choice(
        [
            ("colour", list(COLOURS)),
            ("shape", list(SHAPES)),
            ("size", list(SIZES)),
            ("count", list(COUNTS)),
            ("place", [place for place in PLACES if place not in taken]),
        ]
    )
    changed = replace(group, **{attribute: other(rng, values, getattr(group, attribute))})
    return replace(scene, groups=(*scene.groups[:index], changed, *scene.groups[index + 1 :]))


def other(rng: random.Random, values: list[str], value: str) -> str:
    """Return one of the values that is not `value`."""
    return rng.choice([candidate for candidate in values if candidate != value])


def draw(rng: random.Random, scene: Scene, size: int = PICTURE_SIZE) -> Image.Image:
    """Return the scene's picture, `size` x `size` pixels; shapes are moved and tinted slightly at random."""
    image = Image.new("RGB", (size, size), tint(rng, BACKGROUNDS[scene.background]))
    canvas = ImageDraw.Draw(image)
    field = size / 3
    for group in scene.groups:
        row, column = divmod(PLACES.index(group.place), 3)
        left, top = (field * (i + rng.uniform(-0.06, 0.06)) for i in (column, row))
        for x, y in LAYOUTS[COUNTS[group.count]]:
            radius = field * SIZES[group.size] * rng.uniform(0.92, 1.08)
            draw_shape(canvas, group.shape, left + x * field, top + y * field, radius, tint(rng, COLOURS[group.colour]))
    return image


def tint(rng: random.Random, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the colour with each channel changed by up to 12."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-12, 12))) for channel in colour)
    return red, green, blue


def draw_shape(
    canvas: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, colour: tuple[int, int, int]
) -> None:
    """Draw one filled shape around a centre."""
    r = radius
    if shape == "circle":
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif shape == "ring":
        canvas.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=round(0.38 * r))
    elif shape == "square":
        canvas.rectangle((x - 0.88 * r, y - 0.88 * r, x + 0.88 * r, y + 0.88 * r), fill=colour)
    elif shape == "triangle":
        canvas.polygon([(x, y - r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)], fill=colour)
    elif shape == "cross":
        arm = 0.33 * r
        canvas.rectangle((x - arm, y - r, x + arm, y + r), fill=colour)
        canvas.rectangle((x - r, y - arm, x + r, y + arm), fill=colour)
    else:
        spikes = [(0.0, -1.0), (0.23, -0.32), (0.95, -0.31), (0.37, 0.12), (0.59, 0.81)]
        points = [*spikes, (0.0, 0.39), *((-a, b) for a, b in reversed(spikes[1:]))]
        canvas.polygon([(x + a * r, y + b * r) for a, b in points], fill=colour)


GROUP_SENTENCES = (
    "{Where} there {verb} {what}.",
    "{Where} one can see {what}.",
    "{Where} the picture shows {what}.",
    "{Where} of the picture {verb} {what}.",
    "Look {where}: there {verb} {what}.",
)
BACKGROUND_SENTENCES = (
    "The background is {}.",
    "Everything lies on a {} background.",
    "The whole scene is set against a plain {} background.",
)
OPENINGS = (
    "This is a simple picture of coloured shapes.",
    "The image shows several shapes.",
    "A flat drawing of geometric shapes.",
    "Here is a picture made of a few plain shapes.",
)
FILLERS = (
    "The drawing is plain and has no shading.",
    "It is the kind of picture that is easy to describe.",
    "The edges are sharp and clean.",
    "Some of the fields are left empty.",
    "Each shape is filled with a single colour.",
    "Nothing in it is hard to make out, whichever way one looks at it.",
    "Groups of equal shapes stand in the fields of a three by three grid.",
    "It looks like a page from a book for children.",
    "All of it is drawn in even colours.",
    "There is no text in the picture.",
)


@dataclass(frozen=True)
class Wording:
    """All random choices of a caption, so that two scenes can be described with the same words.

    `told` holds the numbers of the groups in the order of their sentences, and -1 for the background.
    The other tuples have an element for each of those.
    """

    opening: str
    told: tuple[int, ...]
    sentences: tuple[str, ...]
    prepositions: tuple[str, ...]
    fillers: tuple[str, ...]


def long_wording(rng: random.Random, scene: Scene) -> Wording:
    """Return a wording that states all facts in 80 to 220 tokens, with sentences without information between."""
    while True:
        told = rng.sample(range(-1, len(scene.groups)), len(scene.groups) + 1)
        candidate = wording(rng, told, fillers=rng.randint(0, len(told)))
        if MIN_TOKENS <= len(tokenize(caption(scene, candidate), MAX_TOKENS + 1).ids) <= MAX_TOKENS:
            return candidate


def short_wording(rng: random.Random, scene: Scene, most: int = 2) -> Wording:
    """Return a wording that states one to `most` facts of the scene."""
    count = rng.randint(1, min(most, len(scene.groups) + 1))
    return wording(rng, rng.sample(range(-1, len(scene.groups)), count), fillers=rng.randint(0, count - 1))


def wording(rng: random.Random, told: list[int], fillers: int) -> Wording:
    """Return a random wording that states `told` in this order, with `fillers` sentences without information."""
    filler_places = set(rng.sample(range(len(told)), fillers))
    return Wording(
        opening=rng.choice(OPENINGS),
        told=tuple(told),
        sentences=tuple(rng.choice(BACKGROUND_SENTENCES if i < 0 else GROUP_SENTENCES) for i in told),
        prepositions=tuple(rng.choice(("in", "at")) for _ in told),
        fillers=tuple(rng.choice(FILLERS) if i in filler_places else "" for i in range(len(told))),
    )


def caption(scene: Scene, wording: Wording) -> str:
    """Return the caption of the scene in this wording."""
    parts = [wording.opening]
    for i, sentence, preposition, filler in zip(
        wording.told, wording.sentences, wording.prepositions, wording.fillers, strict=True
    ):
        parts.append(told(scene, i, sentence, preposition))
        if filler:
            parts.append(filler)
    return " ".join(parts)


def told(scene: Scene, i: int, sentence: str, preposition: str) -> str:
    """Return the sentence about a group, or about the background if `i` is negative."""
    if i < 0:
        return sentence.format(scene.background)
    group = scene.groups[i]
    what, where = group.phrase(), f"{preposition} the {group.place}"
    verb = "is" if group.count == "one" else "are"
    return sentence.format(what=what, where=where, Where=where.capitalize(), verb=verb)


CLIP_CONTEXT_LENGTH = 77


@dataclass(frozen=True)
class Example:
    """A scene with its long caption, and three captions with one thing changed.

    `early` differs only within the 77 tokens that CLIP would read, `late` only past them, `anywhere` somewhere.
    """

    scene: Scene
    right: str
    anywhere: str
    early: str
    late: str


def random_example(rng: random.Random) -> Example:
    """Return a random scene with facts that can be changed on both sides of token 77."""
    while True:
        scene = random_scene(rng)
        wording = long_wording(rng, scene)
        right = caption(scene, wording)
        wrong = [caption(change_one_attribute(rng, scene), wording) for _ in range(40)]
        early = next((text for text in wrong if differs_only(right, text, late=False)), None)
        late = next((text for text in wrong if differs_only(right, text, late=True)), None)
        if early and late:
            return Example(scene, right, wrong[0], early, late)


def differs_only(right: str, wrong: str, *, late: bool) -> bool:
    """Return whether two captions differ only past CLIP's 77 tokens (`late`), or only within them."""
    one, other = (tokenize(text, MAX_TOKENS).ids for text in (right, wrong))
    same_start = one[:CLIP_CONTEXT_LENGTH] == other[:CLIP_CONTEXT_LENGTH]
    same_end = one[CLIP_CONTEXT_LENGTH:] == other[CLIP_CONTEXT_LENGTH:]
    return same_start and not same_end if late else same_end and not same_start
