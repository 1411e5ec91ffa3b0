"""The inputs of a run, opened one after another, and their rows as one stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition

from longclip_cli.errors import LongCLIPError, OutputError
from longclip_cli.jobs.part import OpenPart
from longclip_cli.jobs.plan import Part
from longclip_cli.rows import Mark, Rows

MOST_OPEN = 64  # inputs and outputs at a time; there may be thousands without a row that is to be scored


@dataclass(frozen=True)
class FailedPart:
    """An input that could not be opened, or whose output could not, and why."""

    part: Part
    error: LongCLIPError


class Inputs:
    """Opens inputs in order, each when its rows are wanted, and hands them over to the thread that writes.

    The thread that opens the first ones goes on to write; from then on the one that reads rows opens the others.
    """

    def __init__(self, parts: tuple[Part, ...], open_part: Callable[[Part], OpenPart]) -> None:
        self._parts = deque(parts)
        self._open_part = open_part
        self._handed: deque[OpenPart | FailedPart] = deque()
        self._open: list[OpenPart] = []
        self._changed = Condition()  # of the list of what is open
        self._is_closed = False

    def open_next(self) -> OpenPart | FailedPart | None:
        """Open the next input and return it, or why that failed; `None` after the last one."""
        if not self._parts:
            return None
        part = self._parts.popleft()
        try:
            opened = self._open_part(part)
        except LongCLIPError as error:
            return FailedPart(part, error)
        except OSError as error:  # a folder that cannot be looked into, a name that is too long
            return FailedPart(part, OutputError(f"cannot open {error.filename}: {error.strerror}"))
        with self._changed:
            self._open.append(opened)
            if self._is_closed:  # nobody else will close it
                self._close_one(opened)
        return opened

    def rows(self, first: OpenPart) -> Rows:
        """Yield the rows of an opened input, and of those after it. Each is handed over before its first row.

        `PAUSE` follows many inputs that are still open, so that those that have ended are completed.
        """
        current: OpenPart | FailedPart | None = first
        while current and not self._is_closed:
            self._handed.append(current)
            if isinstance(current, OpenPart):
                yield from rows_of(current)
            if len(self._open) >= MOST_OPEN:
                yield Mark.PAUSE
                with self._changed:
                    self._changed.wait_for(lambda: self._is_closed or len(self._open) < MOST_OPEN)
            current = self.open_next()

    def take(self) -> OpenPart | FailedPart | None:
        """Return the next input that was handed over; `None` if there is none yet."""
        return self._handed.popleft() if self._handed else None

    def close(self, opened: OpenPart) -> None:
        """Close an input and its output."""
        with self._changed:
            self._close_one(opened)
            self._changed.notify_all()

    def _close_one(self, opened: OpenPart) -> None:
        if opened in self._open:
            self._open.remove(opened)
            opened.close()

    def close_all(self) -> None:
        """Close what is open, and open no more."""
        with self._changed:
            self._is_closed = True
            for opened in list(self._open):
                self._close_one(opened)
            self._changed.notify_all()


def rows_of(opened: OpenPart) -> Rows:
    """Yield the rows of an input until it ends or is abandoned; an error in reading it is left in `opened`."""
    count = 0
    try:
        for row in opened.rows:
            if opened.abandoned:
                break
            count += row is not Mark.PAUSE
            yield row
    except LongCLIPError as error:
        opened.error = error
    opened.rows_read = count
    opened.has_ended = True
