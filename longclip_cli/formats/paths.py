"""The paths that a row has, and which of them a wrong key most likely means: for error messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import islice, takewhile

from longclip_cli.errors import UsageError
from longclip_cli.formats.selectors import Step, parse_nested, parse_path, parse_selector, write_path

MOST_PATHS = 100
MOST_STEPS = 8
MOST_ELEMENTS = 20  # of a list, when paths are listed: others seldom have more fields
MOST_VISITED = 10_000  # values of a row, when its paths are listed
LONGEST_NAME = 80  # characters; messages show no more of a value
LEAST_LIKENESS = 0.5  # `.meta.file` and `.meta.path` have more


def paths_of(value: Mapping[str, object]) -> list[str]:
    """Return the keys that find something in a row, in order: names of its fields, and paths to what these hold.

    All elements of a list share their paths. At most 100 paths of at most 8 steps are returned.
    """
    leaves = dict.fromkeys(islice(leaf_steps((), value), MOST_VISITED))
    return [key_of(steps) for steps in islice(leaves, MOST_PATHS)]


def leaf_steps(steps: tuple[Step, ...], value: object) -> Iterator[tuple[Step, ...]]:
    """Yield the steps to each value in which no path goes on, with repetitions."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        yield steps
        value = parse_nested(value)
    inner = steps_inside(value) if len(steps) < MOST_STEPS else []
    if steps and not inner:
        yield steps
    for step, child in inner:
        yield from leaf_steps((*steps, step), child)


def steps_inside(value: object) -> list[tuple[Step, object]]:
    """Return the steps from a value into what it holds, less long names. A list of strings or numbers is one value."""
    if isinstance(value, Mapping) and not value.keys() >= {"bytes", "path"}:  # as images are, which are one value
        return [(name, child) for name, child in value.items() if len(name) <= LONGEST_NAME]
    if isinstance(value, list | tuple):
        return [(None, child) for child in value[:MOST_ELEMENTS] if isinstance(child, Mapping | list | tuple)]
    return []


def key_of(steps: Sequence[Step]) -> str:
    """Return the shortest key that has these steps."""
    name = steps[0]
    is_plain = len(steps) == 1 and isinstance(name, str) and name and not name.startswith(".")
    return str(name) if is_plain else write_path(steps)


def nearest_path(key: str, paths: Sequence[str]) -> str | None:
    """Return what a key that finds nothing was probably meant to be, with the indices that it has.

    `paths` are those of a row that lacks the key. Return `None` if nothing is near.
    """
    steps = lenient_steps(key)
    likeness_of = {path: likeness(names_in(steps), names_in(lenient_steps(path))) for path in paths}
    nearest = max(likeness_of, key=likeness_of.__getitem__, default="")
    if likeness_of.get(nearest, 0) < LEAST_LIKENESS:
        return None
    selector = parse_selector(nearest)
    suggestion = key_of(with_indices((selector.name, *selector.steps), steps))
    return None if suggestion == key else suggestion


def lenient_steps(key: str) -> list[Step]:
    """Return the steps of a key, also if it lacks the first dot or, as in other tools, has `.1` for `[1]`."""
    try:
        name, *steps = parse_path(key if key.startswith(".") else f".{key}")
    except UsageError:
        return [key]
    return [name, *(int(step) if isinstance(step, str) and step.isdecimal() else step for step in steps)]


def names_in(steps: Iterable[Step]) -> list[str]:
    """Return the steps that are names."""
    return [step for step in steps if isinstance(step, str)]


def with_indices(path: Sequence[Step], meant: Sequence[Step]) -> list[Step]:
    """Return a path's steps with the indices of another path: for each `[]`, and at the end those that it has there."""
    indices = [step for step in meant if not isinstance(step, str)]
    last = [*takewhile(lambda step: not isinstance(step, str), reversed(meant))][::-1]
    unused = iter(indices)
    filled = [next(unused, None) if step is None else step for step in path]
    left = len([*unused])
    return filled + (last[-left:] if left else [])


def likeness(names: Sequence[str], others: Sequence[str]) -> float:
    """Return how near the names of two keys are, from 0 to 1. One name alone may also be the last of a path."""
    whole = ratio(".".join(names), ".".join(others))
    return max(whole, 0.9 * ratio(names[0], others[-1])) if len(names) == len(others[:1]) == 1 else whole


def ratio(text: str, other: str) -> float:
    """Return how alike two texts are, from 0 to 1, whatever their case."""
    return SequenceMatcher(None, text.lower(), other.lower(), autojunk=False).ratio()
