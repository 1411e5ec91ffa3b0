"""Which value of a row a key of the command line means: a field's name, or a path such as `.conversations[1].value`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson

from longclip_cli.errors import Reason, RowError, UsageError, cut

Step: TypeAlias = str | int | None  # the name of a field, the index of an element, or None for all elements

NAME = r"[\w@$:/#-]+"  # a name that needs no quotes
STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{4})*"'
STEP = re.compile(
    rf"\.(?P<name>{NAME})|\.(?P<quoted>{STRING})|\.?\[(?P<bracketed>{STRING})\]|\.?\[(?P<index>-?\d{{1,9}}|)\]"
)
MOST_PARSED = 2**20  # characters of JSON in a string


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
