"""Progress on standard error: a bar on a terminal, elsewhere a line a minute."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from longclip_cli.reporting.messages import message
from longclip_cli.reporting.summary import Summary

if TYPE_CHECKING:
    from tqdm import tqdm

SECONDS_BETWEEN_LINES = 60


class Progress:
    """Shows how far a run is. `start` it before the first row, `close` it after the last."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._size: int | None = None
        self._started = self._last_line = time.monotonic()

    def start(self, size: int | None, kept: int = 0) -> None:
        """Begin for an input of `size` bytes (`None` if not known), of which `kept` bytes are done."""
        self._size = size
        self._started = self._last_line = time.monotonic()
        if sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            share = "{percentage:3.0f}% |{bar}| " if size else ""
            left = "<{remaining}" if size else ""
            self._bar = tqdm(
                total=size,
                initial=kept if size else 0,
                bar_format=f"{share}{{desc}} [{{elapsed}}{left}]",
                dynamic_ncols=True,
            )

    def update(self, summary: Summary, offset: int) -> None:
        """Show the counts, now that `offset` bytes of the input are done."""
        now = time.monotonic()
        rate = (summary.rows - summary.kept) / max(now - self._started, 1e-9)
        text = f"{summary.rows:,} rows, {rate:,.1f} rows/s, {summary.failed:,} errors"
        if self._bar is not None:
            self._bar.set_description_str(text, refresh=False)
            with suppress(OSError):  # the terminal has closed, which does not stop the run
                self._bar.update(offset - self._bar.n if self._size else 1)
        elif now >= self._last_line + SECONDS_BETWEEN_LINES:
            self._last_line = now
            share = f", {100 * offset / self._size:.0f} % of the input" if self._size else ""
            with suppress(OSError):
                print(message(f"{text}{share}", is_timed=True), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()


class NoProgress(Progress):
    """Shows nothing."""

    def start(self, size: int | None, kept: int = 0) -> None:
        """Do nothing."""

    def update(self, summary: Summary, offset: int) -> None:
        """Do nothing."""
