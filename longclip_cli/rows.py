"""Rows and their results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from statistics import fmean
from typing import Any, Literal, TypeAlias

from longclip_cli.errors import LongCLIPError, Reason, RowError, quote
from longclip_cli.options import Reduce

Score: TypeAlias = float | RowError  # in [0, 1], or why there is none
Result: TypeAlias = Score | tuple[Score, ...]  # of a row; several if it has a list of texts or images
REDUCTIONS: dict[str, Callable[[list[float]], float]] = {"mean": fmean, "min": min, "max": max}
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
class EncodedImage:
    """An image file that a row holds itself, as bytes; `name` is what messages call it."""

    content: bytes
    name: str


ImageReference: TypeAlias = str | EncodedImage  # a path or a data: URI, or the file's bytes


@dataclass(frozen=True, slots=True)
class RowInputs:
    """References to a row's images, and its texts.

    One of the two is alone and makes a pair with each of the others; an element may be the error that says why it has
    no score. `reduce` says what becomes of the scores of a list; it is `None` for one image and one text.
    """

    images: tuple[ImageReference | RowError, ...]
    texts: tuple[str | RowError, ...]
    reduce: Reduce | None = None

    @property
    def pairs(self) -> list[tuple[ImageReference | RowError, str | RowError]]:
        """The pairs that are scored, in order."""
        count = max(len(self.images), len(self.texts))
        images = self.images * count if len(self.images) == 1 else self.images
        texts = self.texts * count if len(self.texts) == 1 else self.texts
        return list(zip(images, texts, strict=True))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input: what is to be scored, or the error that says why it can't be.

    `number` counts from 1, as messages name the row. `origin` is what its format needs to write the row again; no
    other code looks inside. `offset` counts the bytes of the input up to the row's end, 0 if it is not known, and
    `size` the bytes that the row holds in memory.
    `is_terminated` is false for a last line without a line end, which may have been cut.
    """

    number: int
    inputs: RowInputs | RowError
    origin: Any = None
    offset: int = 0
    size: int = 0
    is_terminated: bool = True


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row and its result.

    `texts_cut` counts its texts that were longer than the network reads, `rotations` its images whose EXIF rotation was
    not applied. `mismatched` are scores of its images beside texts of other rows.
    """

    row: Row
    result: Result
    texts_cut: int = 0
    rotations: int = 0
    mismatched: tuple[float, ...] = ()


Rows: TypeAlias = Iterator[Row | Literal[Mark.PAUSE]]  # an input's rows, in order


def image_reference(value: object, name: str) -> ImageReference:
    """Return the image that a value refers to: a path, a data: URI, bytes, or an object with `bytes` and `path`.

    Raises `RowError`, which names the field.
    """
    if isinstance(value, dict) and ("bytes" in value or "path" in value):  # as Hugging Face's datasets have it
        content, path = value.get("bytes"), value.get("path")
        value = EncodedImage(content, quote(str(path or name))) if isinstance(content, bytes) else path
    if isinstance(value, bytes):
        value = EncodedImage(value, name)
    if isinstance(value, EncodedImage):
        return value
    if not isinstance(value, str):
        raise RowError(Reason.NOT_A_PATH, f"'{name}' is {kind_of(value)}")
    if not value.strip():
        raise RowError(Reason.NOT_A_PATH, f"'{name}' is blank")
    if "://" in value and not value.startswith("data:"):
        raise RowError(Reason.URL, quote(value))
    return value


def text_of(value: object, name: str) -> str:
    """Return the text that a value is. Raises `RowError`, which names the field."""
    if not isinstance(value, str):
        raise RowError(Reason.NOT_A_STRING, f"'{name}' is {kind_of(value)}")
    if not value.strip():
        raise RowError(Reason.BLANK_TEXT, f"'{name}'")
    return value


def error_of(result: Result) -> RowError | None:
    """Return why a row has failed; `None` if all its scores are there. For a list the message names the elements."""
    if not isinstance(result, tuple):
        return result if isinstance(result, RowError) else None
    errors = [(index, score) for index, score in enumerate(result) if isinstance(score, RowError)]
    if not errors:
        return None
    return RowError(errors[0][1].reason, message="; ".join(f"[{index}] {error}" for index, error in errors))


def row_result(scores: tuple[Score, ...], inputs: RowInputs | RowError) -> Result:
    """Return the result of a row whose pairs have these scores. If one of them failed, a reduced result has failed."""
    reduce = None if isinstance(inputs, RowError) else inputs.reduce
    if reduce is None:
        return scores[0]
    if reduce == "none":
        return scores
    whole = [score for score in scores if not isinstance(score, RowError)]
    if len(whole) < len(scores):
        return error_of(scores) or RowError(Reason.UNEXPECTED)
    return REDUCTIONS[reduce](whole)


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
