"""What the command does when it is asked to stop: Ctrl-C, SIGTERM, a terminal that goes away."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from threading import Event


@dataclass
class Stopping:
    """Whether the run has been asked to stop, and by which signal."""

    event: Event = field(default_factory=Event)
    signal_number: int = 0


def stop_on_signals() -> Stopping:
    """Has Ctrl-C and its like let the rows in hand be finished; the second one ends the process at once.

    A signal that is ignored already, as by `nohup`, stays so.
    """
    stopping = Stopping()

    def handle(number: int, _frame: object) -> None:
        # Not print(): a handler may interrupt one.
        if stopping.event.is_set():
            os.write(2, b"\nlongclip-score: stopped at once\n")
            os._exit(128 + number)
        os.write(2, b"\nlongclip-score: finishing the rows in hand; once more to stop at once\n")
        stopping.signal_number = number
        stopping.event.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)
    return stopping
