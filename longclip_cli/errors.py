"""What can go wrong, as exceptions. Each has the exit status of a command that it stops."""

from __future__ import annotations

import re
from enum import StrEnum

MOST_QUOTED = 80  # characters of a value in a message
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{200}")  # so long, with neither a dot nor a dash, it is no path


class LongCLIPError(Exception):
    """An error that stops a run or a call; the message is one line for the user."""

    exit_status = 1


class UsageError(LongCLIPError):
    """The options contradict each other, or one has no valid value."""

    exit_status = 2


class InputError(LongCLIPError):
    """The input cannot be opened, or became unreadable midway."""


class WrongInputError(InputError):
    """Nothing in the input is a row, or its first rows all fail alike: the command is wrong, not the data."""


class OutputError(LongCLIPError):
    """The output cannot be opened, written or renamed."""


class DifferentRunError(OutputError):
    """What is there was written by a run with other options."""


class ReaderGoneError(LongCLIPError):
    """The reader of the output has closed it, as `head` does. No message is printed."""

    exit_status = 141  # 128 + SIGPIPE, as in shells


class CheckpointError(LongCLIPError):
    """A checkpoint cannot be found, read or understood."""


class DeviceError(LongCLIPError):
    """The device does not exist, or its memory is too small."""


class ResourceError(LongCLIPError):
    """The process has run out of something that every row needs, such as file descriptors."""


class TooManyFailuresError(LongCLIPError):
    """So many rows have failed that the run stops."""


class Interrupted(KeyboardInterrupt):
    """A signal stops the run. No `Exception`, so that no library takes it for a failure of its own."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted")
        self.exit_status = 128 + signal_number


class Reason(StrEnum):
    """Why a row has failed: all reasons there are, each with the text that its messages begin with."""

    NOT_JSON = "line: not JSON"
    NOT_AN_OBJECT = "line: not a JSON object"
    NESTED_TOO_DEEPLY = "line: nested too deeply"
    NOT_UTF8 = "line: not UTF-8"
    NUL_BYTE = "line: a NUL byte"
    AFTER_QUOTE = "line: text after a closing quotation mark"
    TOO_FEW_FIELDS = "line: too few fields"
    TOO_MANY_FIELDS = "line: too many fields"
    NO_IMAGE_FIELD = "image: no field"
    NOT_A_PATH = "image: not a path"
    NO_IMAGES = "image: an empty list"
    NOT_PIXELS = "image: not an array of pixels"
    DATA_URI = "image: not a base64 data: URI of an image"
    URL = "image: URLs are not read"
    NO_SUCH_FILE = "image: no such file"
    CANNOT_OPEN = "image: cannot be opened"
    FOLDER = "image: a folder, not a file"
    FIFO = "image: a FIFO, not a file"
    SOCKET = "image: a socket, not a file"
    DEVICE = "image: a device, not a file"
    EMPTY_FILE = "image: an empty file"
    UNKNOWN_FORMAT = "image: not an image format that can be read"
    TOO_MANY_PIXELS = "image: too many pixels"
    CANNOT_READ = "image: cannot be read"
    CANNOT_DECODE = "image: cannot be decoded"
    NO_TEXT_FIELD = "text: no field"
    NOT_A_STRING = "text: not a string"
    BLANK_TEXT = "text: blank"
    NO_TEXTS = "text: an empty list"
    TOO_MANY_ELEMENTS = "row: too many texts or images"
    SEVERAL_OF_BOTH = "row: several images and several texts"
    NO_IMAGE_MEMBER = "image: no member is an image"
    SEVERAL_IMAGE_MEMBERS = "image: several members are images"
    SPLIT_SAMPLE = "sample: its key came before"
    SAMPLE_TOO_LARGE = "sample: too large"
    DUPLICATE_MEMBER = "sample: two members have one name"
    NOT_A_FILE = "sample: a member is not a regular file"
    MEMBER_NOT_UTF8 = "sample: a member is not UTF-8 text"
    MEMBER_NOT_JSON = "sample: a member is not JSON"
    OUT_OF_MEMORY = "row: out of memory"
    UNEXPECTED = "row: unexpected error"
    NOT_A_NUMBER = "score: the network gave no number; try --precision fp32"

    @property
    def is_not_a_row(self) -> bool:
        """Whether the line holds no row, so that the input may be of another format."""
        return self.startswith("line:")

    @property
    def is_missing_field(self) -> bool:
        """Whether the row lacks a field; the message then names it, and nothing else."""
        return self in (Reason.NO_IMAGE_FIELD, Reason.NO_TEXT_FIELD)


class RowError(LongCLIPError):
    """One row cannot be scored; its neighbours can.

    The message is the reason and what is particular to this row, `detail`, unless a whole `message` is given.
    """

    def __init__(self, reason: Reason, detail: str = "", *, message: str | None = None) -> None:
        super().__init__(message or (f"{reason}: {detail}" if detail else str(reason)))
        self.reason = reason
        self.missing: str | None = None  # the key of the field that the row lacks

    @classmethod
    def missing_field(cls, reason: Reason, key: str) -> RowError:
        """Return the error of a row without the field `key`."""
        error = cls(reason, message=f"{reason} '{key}'")
        error.missing = key
        return error

    @classmethod
    def of_line(cls, reason: Reason, number: int, detail: str, unit: str = "line") -> RowError:
        """Return the error of the line, or other `unit` of its format, `number`, which is not a row."""
        return cls(reason, message=f"{reason}: {detail}".replace("line:", f"{unit} {number}:", 1))

    @classmethod
    def from_message(cls, message: str) -> RowError | None:
        """Return the error that has this message, or `None` if no error has. It may name an element of a list first."""
        unnumbered = re.sub(r"^[a-z]+ \d+:", "line:", re.sub(r"^\[\d+\] ", "", message))
        reasons = [reason for reason in Reason if unnumbered.startswith(reason)]
        return cls(max(reasons, key=len), message=message) if reasons else None

    @property
    def label(self) -> str:
        """The reason as the summary shows it; rows that fail for the same reason have the same label."""
        return str(self) if self.reason.is_missing_field else str(self.reason)


def quote(value: str) -> str:
    """Return a value for a message: its middle replaced by `…` if it is longer than 80 characters.

    A note is added if such a value seems to be an image and not a path.
    """
    if len(value) <= MOST_QUOTED:
        return value
    kind = ""
    if value.startswith("data:"):
        kind = " (a data: URI)"
    elif BASE64.match(value):
        kind = " (looks like base64)"
    return cut(value) + kind


def cut(text: str) -> str:
    """Return a text with its middle replaced by `…` if it is longer than 80 characters."""
    half = MOST_QUOTED // 2
    return text if len(text) <= MOST_QUOTED else f"{text[:half]}…{text[1 - half :]}"
