"""JSON objects as text: read them, and add members to them without serialising them again.

No JSON library gives back a 30-digit integer, `1.10`, a duplicate key or `NaN` unchanged, so all other bytes stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

import orjson

from longclip_cli.errors import Reason, RowError
from longclip_cli.rows import JSON_TYPES

# For what orjson rejects although files hold it: NaN, 1e400, lone surrogates. Numbers are
# never used, so none is too large to be read.
LENIENT_JSON = json.JSONDecoder(parse_int=float)
# The tokens that show where a member of an object ends: whole strings, and brackets and commas outside them.
STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)


def parse_object(content: bytes, number: int, unit: str = "line") -> dict[str, Any]:
    """Return the object that a text holds. Raises `RowError`, which names the text as the line, or `unit`, `number`."""
    try:
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError:
            value = LENIENT_JSON.decode(content.decode().rstrip("\r\n"))
    except RecursionError:
        raise RowError.of_line(Reason.NESTED_TOO_DEEPLY, number, "flatten it, or leave it out", unit) from None
    except ValueError as error:
        where = (
            f"{error.msg.removesuffix(' at')} at column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else str(error)
        )
        raise RowError.of_line(Reason.NOT_JSON, number, where, unit) from None
    if not isinstance(value, dict):
        raise RowError.of_line(Reason.NOT_AN_OBJECT, number, f"it is {JSON_TYPES[type(value)]}", unit)
    return value


def with_members(content: bytes, keys: Set[str], added: Mapping[str, bytes], *, replaced: Set[str]) -> bytes:
    """Return an object, which has these `keys`, with the members `added` last. Those with a key in `replaced` go.

    If the object is spread over lines, each new member has a line, too.
    """
    end = content.rindex(b"}")
    kept, rest = content[:end], content[end:]
    stale = replaced & keys
    if stale:
        kept = without_members(kept, stale)
    start = kept.index(b"{") + 1
    indent = kept[start : len(kept) - len(kept[start:].lstrip())]
    is_spread = b"\n" in indent
    separator = b"," + indent if is_spread else b", "
    body = kept.rstrip() if is_spread else kept
    first = separator * (len(keys) > len(stale))
    return body + first + separator.join(members(added)) + kept[len(body) :] + rest


def members(values: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the members of a JSON object, from keys and encoded values."""
    return (b"%b: %b" % (json_string(key), value) for key, value in values.items())


def object_of(values: Mapping[str, bytes]) -> bytes:
    """Return a JSON object, from keys and encoded values."""
    return b"{%b}" % b", ".join(members(values))


def json_string(text: str) -> bytes:
    """Return a JSON string. Lone surrogates, which UTF-8 cannot hold, become `\\udc00`."""
    return orjson.dumps(text.encode("utf-8", "backslashreplace").decode())


def without_members(opened: bytes, keys: Set[str]) -> bytes:
    """Return an object, given without its closing brace, less the members with these keys; others keep their bytes."""
    start = opened.index(b"{") + 1
    spans = list(member_spans(opened))
    kept = [opened[begin:end] for begin, end in spans if member_key(opened, begin) not in keys]
    first = opened[start : spans[0][1]]
    blank = first[: len(first) - len(first.lstrip())]  # between the brace and whichever member comes first
    return opened[:start] + blank * bool(kept) + b",".join(kept).lstrip()


def member_spans(opened: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each member of an object, given without its closing brace, begins and ends."""
    depth = begin = 0
    for token in STRUCTURE.finditer(opened):
        kind = token[0]
        if kind in (b"{", b"["):
            depth += 1
            begin = begin or token.end()
        elif kind in (b"}", b"]"):
            depth -= 1
        elif kind == b"," and depth == 1:
            yield begin, token.start()
            begin = token.end()
    yield begin, len(opened)


def member_key(opened: bytes, begin: int) -> str:
    """Return the key of the member that begins at `begin`."""
    key = STRUCTURE.search(opened, begin)
    assert key, "a member begins with its key"
    return str(json.loads(key[0]))
