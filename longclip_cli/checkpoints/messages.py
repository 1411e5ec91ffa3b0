"""What the messages about checkpoints have in common: names and values that a file may have chosen."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from longclip_cli.errors import CheckpointError, cut


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Add the path of the checkpoint to a `CheckpointError`."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def shown(value: object) -> str:
    """Return a value for a message: on one line, control characters escaped, cut at 80 characters."""
    return cut(repr(value)[1:-1] if isinstance(value, str) else reprlib.repr(value))


def listing(texts: Iterable[str], most: int = 5) -> str:
    """Return the first `most` of some texts, and how many more there are."""
    texts = list(texts)
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def reason(error: Exception) -> str:
    """Return what an exception says, without the path that `OSError` repeats."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
