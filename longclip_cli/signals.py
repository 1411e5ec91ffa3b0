"""What the command does when it is asked to stop: Ctrl-C, SIGTERM, a terminal that goes away."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread

from longclip_cli.errors import InterruptedRunError


@dataclass
class Stop:
    """Whether a run has been asked to stop.

    Once rows flow, the run looks at `requested` and finishes the rows in hand. Until then it may be waiting
    for whatever, and the signal handler raises `InterruptedRunError` where it waits.
    """

    requested: Event = field(default_factory=Event)
    rows_flow: bool = False
    signal_number: int = 0


def stop_on_signals() -> Stop:
    """Has SIGINT, SIGTERM and SIGHUP end the run in good order, and a second one end the process at once.

    A signal that is ignored already, as by `nohup`, stays so.
    """
    stop = Stop()
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
    return stop


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
        below_progress_bar = "\n" if os.isatty(2) else ""
        os.write(2, f"{below_progress_bar}longclip-score: {text}\n".encode())
