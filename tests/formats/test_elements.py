"""Elements of a JSON array: found by structure alone, as they arrive, in constant memory."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tracemalloc
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from longclip_cli.errors import InputError
from longclip_cli.formats.elements import BLOCK_BYTES, Element, one_line, read_elements
from longclip_cli.formats.lines import BLANK_BYTES
from longclip_cli.storage.source import Input, open_input

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(['"', "\\", "[]{},"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
layouts = st.fixed_dictionaries({"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 0, 1, "\t"])})
sizes = st.integers(1, 40)


class Blocks(io.BytesIO):
    """A stream that gives so many bytes a call, as pipes and decompressors do."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__(content)
        self.size = size

    def read1(self, size: int = -1) -> bytes:
        return super().read1(min(self.size, size))


def source_of(content: bytes, size: int = BLOCK_BYTES) -> Input:
    stream = Blocks(content, size)
    return Input("in.json", stream, stream, len(content), "in.json")


def contents(content: bytes, size: int = BLOCK_BYTES, start: int = 0) -> list[bytes]:
    source = source_of(content, size)
    return [element.content for element in read_elements(source, source.stream.read(start))]


def outcome(content: bytes, size: int = BLOCK_BYTES) -> tuple[list[bytes], str]:
    """Return the elements before the error, and its message without the name of the input."""
    elements = []
    with pytest.raises(InputError) as raised:
        elements.extend(element.content for element in read_elements(source_of(content, size)))
    return elements, str(raised.value).removeprefix("in.json: ")


def dumped(elements: Iterable[object], layout: dict) -> list[bytes]:
    return [json.dumps(element, **layout).encode() for element in elements]


@given(st.lists(values, max_size=5), layouts, st.sampled_from([",", ", ", " ,\r\n\t"]), sizes, st.integers(0, 30))
def test_elements_keep_their_bytes_in_blocks_of_any_size(elements, layout, separator, size, start):
    expected = dumped(elements, layout)
    content = b"\xef\xbb\xbf \n[ " + separator.encode().join(expected) + b" ]\n"
    assert contents(content, size, start) == expected


def elements_before_any_error(content: bytes, size: int) -> list[bytes]:
    elements: list[bytes] = []
    with suppress(InputError):
        elements.extend(element.content for element in read_elements(source_of(content, size)))
    return elements


@given(st.lists(values, max_size=4), layouts, st.data(), sizes)
def test_changed_and_cut_arrays_give_elements_or_an_input_error(elements, layout, data, size):
    content = bytearray(b"[" + b",".join(dumped(elements, layout)) + b"]")
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(content[: data.draw(st.integers(0, len(content)))])
    assert elements_before_any_error(broken, size) == elements_before_any_error(broken, BLOCK_BYTES)


@given(st.text('"\\[]{},: a\n'), sizes)
def test_the_size_of_blocks_makes_no_difference(content, size):
    broken = b"[" + content.encode()
    assert elements_before_any_error(broken, size) == elements_before_any_error(broken, BLOCK_BYTES)


@pytest.mark.parametrize("size", [1, 2, 3, BLOCK_BYTES])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[]", []),
        (b" [ \n ] ", []),
        (b"[1,,2, ]", [b"1", b"2"]),
        (b"[,]", []),
        (b'[{"a": 01}, nope, {"b": 2]]', [b'{"a": 01}', b"nope", b'{"b": 2]']),
        (rb'["\\", "\"", "a\\\"],[", "\\\\"]', [rb'"\\"', rb'"\""', rb'"a\\\"],["', rb'"\\\\"']),
        (b'["]", {"[": "}"}, [[], "{"]]', [b'"]"', b'{"[": "}"}', b'[[], "{"]']),
        (b"[{} {}]", [b"{}", b"{}"]),
        (b"[a b\n,\xff]", [b"a b", b"\xff"]),
        (b"\xef\xbb\xbf[1]", [b"1"]),
    ],
)
def test_borders_come_from_structure_alone(content, expected, size):
    assert contents(content, size) == expected


@pytest.mark.parametrize("size", [1, 2, 3, BLOCK_BYTES])
@pytest.mark.parametrize(
    ("content", "elements", "message"),
    [
        (b"[1, {}", [b"1", b"{}"], "unreadable after element 2: the array has no end; was the file cut?"),
        (b'["\\', [], "unreadable after element 0: the array has no end; was the file cut?"),
        (b"[{}, 1}", [b"{}"], "unreadable after element 1: '}' where ',' or ']' belongs"),
        (b"[{}}, 1]", [b"{}"], "unreadable after element 1: '}' where ',' or ']' belongs"),
        (b'["a"]\n[2]', [b'"a"'], "unreadable after element 1: the array has ended, but the input goes on"),
        (b"[1]\\", [b"1"], "unreadable after element 1: the array has ended, but the input goes on"),
        (b" \n", [], "empty, not a JSON array"),
        (b"", [], "empty, not a JSON array"),
    ],
)
def test_a_broken_array_is_an_error_after_its_last_element(content, elements, message, size):
    assert outcome(content, size) == (elements, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": 2}\n', "begins with an object, not with a JSON array; if it has one object a line, "),
        (b"a,b\n1,2\n", "not a JSON array; it looks like CSV"),
        ("[1]".encode("utf-16"), "not a JSON array; it looks like UTF-16 text; convert it with iconv"),
        (gzip.compress(b"[1]"), "is compressed; pipe it through zcat"),
        (b"\xef\xbb", "not a JSON array"),
    ],
)
def test_an_input_that_is_no_array_is_named_with_a_remedy(content, message):
    assert outcome(content)[1].startswith(message)


def test_an_element_is_yielded_before_more_arrives_in_a_pipe():
    receiving, sending = os.pipe()
    file = os.fdopen(receiving, "rb")
    elements = read_elements(Input("a pipe", file, file, None, "a pipe"), b' [{"a"')
    for sent, expected in [(b': 1}, {"b": [2]}', b'{"a": 1}'), (b"", b'{"b": [2]}'), (b", 3, ", b"3"), (b" 4]", b"4")]:
        os.write(sending, sent)
        assert next(elements).content == expected
    os.close(sending)
    assert list(elements) == []
    assert file.closed


def test_elements_have_numbers_and_offsets_in_the_file(tmp_path):
    content = json.dumps([{"id": number, "text": "x" * 1000} for number in range(1000)]).encode()
    (tmp_path / "in.json.gz").write_bytes(gzip.compress(content, 0))
    elements = list(read_elements(open_input(str(tmp_path / "in.json.gz"))))
    assert [element.number for element in elements] == list(range(1, 1001))
    assert [json.loads(element.content)["id"] for element in elements] == list(range(1000))
    offsets = [element.offset for element in elements]
    assert offsets == sorted(offsets)
    assert offsets[-1] == (tmp_path / "in.json.gz").stat().st_size
    assert 0 < offsets[0] < offsets[-1] / 2


@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_cut_or_broken_compressed_file_is_an_error(tmp_path, suffix, compress):
    content = b"[" + b", ".join(json.dumps({"text": os.urandom(50).hex()}).encode() for _ in range(10_000)) + b"]"
    packed = compress(content)
    path = tmp_path / f"in.json{suffix}"
    for broken in (packed[:-20], packed[: len(packed) // 2] + b"x" * 1000):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"in\.json.*: unreadable after element \d+: "):
            list(read_elements(open_input(str(path))))


def live(*parts: bytes) -> Input:
    """Return a pipe in which these parts arrive one after another."""
    stream = io.BytesIO()
    arriving = iter(parts)
    stream.read1 = lambda _: next(arriving, b"")
    return Input("in.json", io.BytesIO(), stream, None, "in.json")


def test_a_long_run_of_white_space_yields_blank_elements():
    blocks = 3 * BLANK_BYTES // BLOCK_BYTES
    elements = list(read_elements(live(b"[1,", *[b" " * BLOCK_BYTES] * blocks, b"2]")))
    assert [element.number for element in elements if not element.is_blank] == [1, 2]
    assert elements[1:-1] == [Element(1, b"", 0)] * 2


@pytest.mark.parametrize("size", [100, BLOCK_BYTES])
def test_an_element_above_the_limit_is_an_error(monkeypatch, size):
    monkeypatch.setattr("longclip_cli.formats.elements.MAX_LINE_BYTES", 1000)
    exact = b'"%b"' % (b"x" * 998)
    assert contents(b"[%b, %b%b]" % (exact, b" " * 3000, exact), size) == [exact, exact]
    elements, message = outcome(b'[1, "%b"]' % (b"x" * 999), size)
    assert elements == [b"1"]
    assert message.startswith("unreadable after element 1: the next has more than 1000 bytes; ")


@pytest.mark.parametrize("opening", [b"[", b'["'], ids=["outside", "in a string"])
@pytest.mark.parametrize("content", [b"x", b'"a', rb"\\"], ids=["text", "strings", "escapes"])
def test_memory_is_bounded_by_the_limit_and_a_block(monkeypatch, opening, content):
    limit = 80 * BLOCK_BYTES
    monkeypatch.setattr("longclip_cli.formats.elements.MAX_LINE_BYTES", limit)
    block = content * (BLOCK_BYTES // len(content))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=f"the next has more than {limit} bytes"):
            list(read_elements(live(opening, *[block] * 800)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * limit


@given(values, st.sampled_from([None, 0, 2, "\t"]), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_one_line_is_the_same_value_without_line_breaks(value, indent, line_break):
    content = json.dumps(value, indent=indent).encode().replace(b"\n", line_break)
    line = one_line(content)
    assert b"\n" not in line
    assert b"\r" not in line
    assert line == json.dumps(value).encode()


@given(st.binary(max_size=30))
@example(b"[1\n2]")
@example(b'"a\nb"')
def test_one_line_changes_white_space_only(content):
    line = one_line(content)
    assert line == content or b"\n" in content or b"\r" in content
    assert not {b"\n", b"\r"} & {line[i : i + 1] for i in range(len(line))}
    assert b"".join(line.split()) == b"".join(content.split())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{\n  "a": 1,\r\n  "b": [\n\n  ]\n}', b'{"a": 1, "b": []}'),
        (b'{"a" :  "b  c" }', b'{"a" :  "b  c" }'),
        (b"[1\n2]", b"[1 2]"),
        (b'{"a": "b\n  c"}', b'{"a": "b c"}'),
    ],
)
def test_one_line_reads_as_json_is_usually_written(content, expected):
    assert one_line(content) == expected
