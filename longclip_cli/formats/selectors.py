"""Which value of a row a key of the command line means: a field's name, or a path such as `.conversations[1].value`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import islice, takewhile
from typing import TypeAlias

import orjson

from longclip_cli.errors import Reason, RowError, UsageError, cut

Step: TypeAlias = str | int | None  # the name of a field, the index of an element, or None for all elements

NAME = r"[\w@$:/#-]+"  # a name that needs no quotes
STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{4})*"'
STEP = re.compile(
    rf"\.(?P<name>{NAME})|\.(?P<quoted>{STRING})|\.?\[(?P<bracketed>{STRING})\]|\.?\[(?P<index>-?\d{{1,9}}|)\]"
)
MOST_PATHS = 100
MOST_STEPS = 8
MOST_ELEMENTS = 20  # of a list, when paths are listed: others seldom have more fields
MOST_VISITED = 10_000  # values of a row, when its paths are listed
LONGEST_NAME = 80  # characters; messages show no more of a value
MOST_PARSED = 2**20  # characters of JSON in a string
LEAST_LIKENESS = 0.5  # `.meta.file` and `.meta.path` have more


@dataclass(frozen=True, slots=True)
class Selector:
    """A key as the command line has it, the name of the field that it begins with, and the steps from there."""

    key: str
    name: str = field(repr=False)
    steps: tuple[Step, ...] = field(default=(), repr=False)

    @property
    def is_list(self) -> bool:
        """Whether the value is always a list, also of length 0 or 1, because the path contains `[]`."""
        return None in self.steps

    def find(self, fields: Mapping[str, object], missing: Reason) -> object:
        """Return the value in a row; several `[]` give one flat list. A string on the way is read as JSON.

        Raise `RowError` with the reason `missing` if a step finds nothing.
        """
        try:
            value = fields[self.name]
            return follow(self.steps, value) if self.steps else value
        except LookupError:
            raise RowError.missing_field(missing, self.key) from None


def parse_selector(key: str) -> Selector:
    """Return what a key selects: the field of that name or, if it begins with `.`, what the path leads to.

    Raise `UsageError`, which shows the position, if a path has a syntax error.
    """
    if not key.startswith("."):
        return Selector(key, key)
    name, *steps = parse_path(key)
    if not isinstance(name, str):
        raise UsageError(
            f"'{cut(key)}': not a path at character 1; a row is an object, so begin with a name, as .captions[0] does"
        )
    return Selector(key, name, tuple(steps))


def parse_path(path: str) -> Iterator[Step]:
    """Yield the steps of a path. Raise `UsageError`."""
    position = 0
    while position < len(path):
        found = STEP.match(path, position)
        if not found or not found.lastgroup:
            where = f"at character {position + 1} ('{cut(path[position:])}')"
            raise UsageError(f"'{cut(path)}': not a path {where}; use .name, .\"any name\", [0] and []")
        text = found[found.lastgroup]
        if found.lastgroup == "index":
            yield int(text) if text else None
        else:
            yield text if found.lastgroup == "name" else json.loads(text)
        position = found.end()


def write_path(steps: Iterable[Step]) -> str:
    """Return the path that has these steps."""
    parts = ("[]" if step is None else f".{quoted(step)}" if isinstance(step, str) else f"[{step}]" for step in steps)
    return "".join(parts)


def quoted(name: str) -> str:
    """Return a name as a path has it."""
    return name if re.fullmatch(NAME, name) else json.dumps(name, ensure_ascii=False)


def follow(steps: Sequence[Step], value: object) -> object:
    """Return what the steps lead to, a list if one of them is `[]`. Raise `LookupError` if there is nothing."""
    values: Sequence[object] = (value,)
    for step in steps:
        values = [child for value in values for child in children(value, step)]
    return values if None in steps else values[0]


def children(value: object, step: Step) -> Sequence[object]:
    """Return what one step leads to: a single value, or for `[]` all elements. Raise `LookupError`."""
    if isinstance(value, str):
        value = parse_nested(value)
    if isinstance(step, str) and isinstance(value, Mapping):
        return (value[step],)
    if not isinstance(step, str) and isinstance(value, list | tuple):
        return value if step is None else (value[step],)
    raise LookupError


def parse_nested(text: str) -> object:
    """Return the value of JSON that a row holds as a string, as Parquet files often do; `None` if it is no JSON."""
    if len(text) > MOST_PARSED:
        return None
    try:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return json.loads(text)  # reads NaN too
    except (ValueError, RecursionError):
        return None


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
    if isinstance(value, Mapping):
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
