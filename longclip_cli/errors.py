"""What can go wrong, as exceptions: one sentence each, with the cause and the remedy."""


class LongCLIPError(Exception):
    """The run cannot start or cannot go on; the message is one line for the user."""


class UsageError(LongCLIPError):
    """The command was asked for something that makes no sense."""


class InputError(LongCLIPError):
    """The input cannot be opened, or became unreadable midway."""


class OutputError(LongCLIPError):
    """The output cannot be opened, written or put in place."""


class CheckpointError(LongCLIPError):
    """A checkpoint cannot be found, read or understood."""


class DeviceError(LongCLIPError):
    """The device asked for is not there, or its memory is too small."""


class InterruptedRunError(LongCLIPError):
    """The run was asked to stop before its input was done."""


class TooManyFailuresError(LongCLIPError):
    """So many rows failed that going on makes no sense."""


class RowError(LongCLIPError):
    """One row cannot be scored; its neighbours can.

    `reason` is the kind of failure, the same for all rows that fail alike ("image: no such file"). The
    message adds what is particular to this row, `detail`, unless a whole `message` is given.
    """

    def __init__(self, reason: str, detail: str = "", *, message: str | None = None) -> None:
        super().__init__(message or (f"{reason}: {detail}" if detail else reason))
        self.reason = reason
