"""What the command does when it is asked to stop: Ctrl-C, SIGTERM, a terminal that goes away."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread

from longclip_cli.errors import InterruptedRunError
from longclip_cli.reporting.messages import message
from longclip_cli.storage.streams import STDERR


@dataclass
class Stop:
    """Whether a run has been asked to stop.

    Once rows flow, the run looks at `requested` and finishes the rows in hand. Until then it may be waiting
    for whatever, and the signal handler raises `InterruptedRunError` where it waits.
    """

    requested: Event = field(default_factory=Event)
    rows_flow: bool = False
    signal_number: int = 0


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the run in good order, and a second one end the process at once.

    A signal that is ignored already, as by `nohup`, stays so. Behind the `with` block all are ignored: the run's
    outcome is decided, and the interpreter, while it shuts down, would let them kill the process.
    """
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]

    def handle(number: int, _frame: object) -> None:
        is_first = not stop.requested.is_set()
        stop.signal_number = number
        stop.requested.set()
        if is_first and not stop.rows_flow:
            raise InterruptedRunError("interrupted")
        if is_first:
            say("finishing the rows in hand; once more to stop at once")

    for number in numbers:
        signal.signal(number, handle)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    Thread(target=exit_at_second, args=(reading, numbers), name="signals", daemon=True).start()
    try:
        yield
    finally:
        stop.rows_flow = True  # nothing is raised from here on
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)


def exit_at_second(pipe: int, numbers: list[signal.Signals]) -> None:
    """Ends the process at the second signal that the pipe tells of, whatever the main thread is busy with.

    Python runs handlers between two steps of the main thread, which may be seconds apart.
    """
    count = 0
    while received := os.read(pipe, 1):
        count += received[0] in numbers
        if count == 2:
            say("stopped at once")
            os._exit(128 + received[0])


def say(text: str) -> None:
    """Writes a line to standard error; not with print(), which a handler may have interrupted."""
    with suppress(OSError):
        below_progress_bar = "\n" if os.isatty(STDERR) else ""
        os.write(STDERR, f"{below_progress_bar}{message(text)}\n".encode())
