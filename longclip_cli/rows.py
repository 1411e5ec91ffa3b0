"""Rows and their results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

from longclip_cli.errors import LongCLIPError, Reason, RowError, quote

Result: TypeAlias = float | RowError  # a score in [0, 1], or why there is none
JSON_TYPES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


class Mark(Enum):
    """What stands between rows in a stream of them."""

    PAUSE = "the next row may take long"
    END = "no row follows"


@dataclass(frozen=True, slots=True)
class RowInputs:
    """A reference to a row's image (a path), and its text."""

    image: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input: what is to be scored, or the error that says why it can't be.

    `number` counts from 1, as messages name the row. `origin` is what its format needs to write the row again; no
    other code looks inside. `offset` counts the bytes of the input up to the row's end, 0 if it is not known, and
    `size` the bytes that the row holds in memory.
    """

    number: int
    inputs: RowInputs | RowError
    origin: Any = None
    offset: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row and its result; `is_cut` says that the text was longer than the network reads."""

    row: Row
    result: Result
    is_cut: bool = False


Rows: TypeAlias = Iterator[Row | Literal[Mark.PAUSE]]  # an input's rows, in order


def image_reference(value: object, name: str) -> str:
    """Return the path that a value is, or that it holds as a list of one. Raises `RowError`, which names the field."""
    if isinstance(value, list):
        if len(value) != 1:
            raise RowError(Reason.NOT_ONE_PATH, f"'{name}' is a list of {len(value)}")
        value = value[0]
    if not isinstance(value, str):
        raise RowError(Reason.NOT_A_PATH, f"'{name}' is {kind_of(value)}")
    if not value.strip():
        raise RowError(Reason.NOT_A_PATH, f"'{name}' is blank")
    if value.startswith("data:"):
        raise RowError(Reason.DATA_URI, quote(value))
    if "://" in value:
        raise RowError(Reason.URL, quote(value))
    return value


def text_of(value: object, name: str) -> str:
    """Return the text that a value is. Raises `RowError`, which names the field."""
    if not isinstance(value, str):
        raise RowError(Reason.NOT_A_STRING, f"'{name}' is {kind_of(value)}")
    if not value.strip():
        raise RowError(Reason.BLANK_TEXT, f"'{name}'")
    return value


def kind_of(value: object) -> str:
    """Return what JSON calls a value, or its type if JSON has no such values."""
    return JSON_TYPES.get(type(value), f"of type {type(value).__name__}")


class RowErrors(AbstractContextManager[None]):
    """Turns every error of one row that no other code expects into a `RowError`.

    What is no `Exception` may be an error too: tokenizers' Rust raises such. It is a class because it is entered
    twice a row, which a generator would make three times as slow.
    """

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        """Raise `RowError` in place of the error, unless that is a `LongCLIPError` or an interrupt."""
        if error is None or isinstance(error, LongCLIPError | KeyboardInterrupt):
            return
        if isinstance(error, MemoryError):
            raise RowError(Reason.OUT_OF_MEMORY) from None
        raise RowError(Reason.UNEXPECTED, quote(f"{type(error).__name__}: {error}")) from None
