"""How signals stop a run: Ctrl-C, SIGTERM, and SIGHUP of a terminal that closes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from longclip_cli.errors import Interrupted
from longclip_cli.reporting.messages import message
from longclip_cli.storage.streams import STDERR


class Stop:
    """Whether a signal has asked the run to stop.

    Until `defer` is called, a signal raises `Interrupted` where the run waits. From then on it sets `requested`, and
    the run finishes the rows in progress.
    """

    def __init__(self) -> None:
        self.requested = Event()
        self._signal_number = 0
        self._is_deferred = False

    def defer(self) -> None:
        """Raise nothing from here on when a signal arrives."""
        self._is_deferred = True

    def check(self) -> None:
        """Raise `Interrupted` if a signal has asked the run to stop."""
        if self.requested.is_set():
            raise Interrupted(self._signal_number)

    def handle(self, number: int, _frame: object) -> None:
        """Handle a signal."""
        is_first = not self.requested.is_set()
        self._signal_number = number
        self.requested.set()
        if is_first and self._is_deferred:
            say("finishing the rows in progress; press again to stop at once")
        elif is_first:
            raise Interrupted(number)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let the first SIGINT, SIGTERM or SIGHUP stop the run, and a second one end the process at once.

    Signals that are ignored, as under `nohup`, stay ignored. After the `with` block all three are ignored: the run's
    outcome is decided, and the interpreter, while it shuts down, would let them kill the process.
    """
    stop = Stop()
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, stop.handle)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    Thread(target=exit_at_second, args=(reading, numbers), name="signals", daemon=True).start()
    try:
        yield stop
    finally:
        stop.defer()
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


def exit_at_second(pipe: int, numbers: list[signal.Signals]) -> None:
    """End the process at the second signal that arrives through the pipe.

    Python runs handlers between two steps of the main thread, which may be seconds apart.
    """
    count = 0
    while received := os.read(pipe, 1):
        count += received[0] in numbers
        if count == 2:
            say("stopped at once")
            os._exit(128 + received[0])


def say(text: str) -> None:
    """Write a line to standard error; not with print(), which a handler may have interrupted."""
    with suppress(OSError):
        below_progress_bar = "\n" if os.isatty(STDERR) else ""
        os.write(STDERR, f"{below_progress_bar}{message(text)}\n".encode())
