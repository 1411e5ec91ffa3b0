"""How many scans a JPEG has: each is a pass over the whole picture, however few bytes it takes in the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

MOST_SCANS = 500  # the limit in the fuzzers of libjpeg-turbo; encoders write some 10
STRIP_BYTES = 2**16
# All but those without a length: stuffed zeros, restarts and padding. They begin a segment of the file.
MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
END, SCAN = 0xD9, 0xDA
HEAD_BYTES = 8  # of a segment, behind its marker: the length, and all that is looked at


def check_scans(file: BinaryIO) -> None:
    """Raise `ValueError` if a JPEG has more than `MOST_SCANS` scans.

    Of a JPEG whose first scan is the whole picture, no more than the header is read. The file's position is behind
    the JPEG's signature before, and anywhere after.
    """
    components, is_progressive, scans = 0, False, 0
    for marker, head in segments(file, 2):
        if marker in FRAMES and len(head) == HEAD_BYTES:
            components, is_progressive = head[7], marker in PROGRESSIVE
        elif marker == SCAN:
            scans += 1
            if scans > MOST_SCANS:
                raise ValueError(f"of more than {MOST_SCANS} scans and slow to decode; convert it to PNG")
            if not is_progressive and head[2:3] == bytes([components]):
                return
        elif marker == END:
            return


def segments(file: BinaryIO, position: int) -> Iterator[tuple[int, bytes]]:
    """Yield the markers of a JPEG from a position on, each with the `HEAD_BYTES` behind it, less at the file's end.

    What follows the header of a scan is passed over.
    """
    while True:
        file.seek(position)
        strip = file.read(STRIP_BYTES)
        start = 0
        while found := MARKER.search(strip, start):
            head = strip[found.end() : found.end() + HEAD_BYTES]
            if len(head) < HEAD_BYTES and len(strip) == STRIP_BYTES:
                break  # the next strip has all of it
            yield found[1][0], head
            start = found.end() + max(2, int.from_bytes(head[:2], "big"))
        if len(strip) < STRIP_BYTES:
            return
        # The last byte may be the first half of a marker.
        position += found.start() if found else max(start, len(strip) - 1)
