"""Rows loaded ahead by worker threads."""

import threading
import time

import orjson
import pytest
import torch
from helpers import PICTURES
from PIL import Image

from longclip_cli.errors import InputError, ResourceError, RowError
from longclip_cli.formats.jsonl import Record
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.budget import MemoryBudget
from longclip_cli.pipeline.load import LoadedRow, Prefetch, RowLoader
from longclip_cli.stopwatch import Stopwatch
from longclip_cli.storage.source import Line

NEVER = threading.Event()
TIMEOUT = 10  # seconds, after which a test that waits has failed


def lines(count):
    return (Line(number, b"{}", number) for number in range(1, count + 1))


def load_at_once(line):
    return LoadedRow(Record(line, ()), RowError("test"))


def prefetch(source, load=load_at_once, workers=4, ahead=8, is_live=False, stop=NEVER, budget=None, pixel_bytes=0):
    return Prefetch(
        source,
        load,
        workers=workers,
        ahead=ahead,
        is_live=is_live,
        stopwatch=Stopwatch(),
        stop=stop,
        budget=budget or MemoryBudget(),
        pixel_bytes=pixel_bytes,
    )


def numbers(chunk):
    return [row.record.line.number for row in chunk]


def one_line_and_another_once(written):
    yield Line(1, b"{}", 0)
    assert written.wait(TIMEOUT)
    yield Line(2, b"{}", 0)


def test_rows_come_in_order_whichever_is_loaded_first():
    def load(line):
        time.sleep(0.002 * (line.number % 4))
        return load_at_once(line)

    with prefetch(lines(50), load) as rows:
        assert [n for chunk in rows.chunks(7, 7) for n in numbers(chunk)] == list(range(1, 51))


def test_chunks_of_a_file_are_full_until_the_last_and_an_empty_one_ends_them():
    with prefetch(lines(10)) as rows:
        assert [numbers(chunk) for chunk in rows.chunks(4, 4)] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], []]


def test_no_more_rows_are_loaded_ahead_than_asked_for():
    loaded = []

    def load(line):
        loaded.append(line.number)
        return load_at_once(line)

    with prefetch(lines(1000), load, ahead=5) as rows:
        chunks = rows.chunks(3, 3)
        next(chunks)
        time.sleep(0.2)
        # Three were taken, five wait in the queue, and one waits for its place there.
        assert len(loaded) <= 3 + 5 + 1


def test_a_live_input_s_row_does_not_wait_for_the_next_line():
    written = threading.Event()
    with prefetch(one_line_and_another_once(written), is_live=True) as rows:
        chunks = (chunk for chunk in rows.chunks(100, 100) if chunk)
        assert numbers(next(chunks)) == [1]
        written.set()
        assert numbers(next(chunks)) == [2]


def test_an_empty_chunk_comes_before_a_wait_so_that_nothing_is_held_back():
    written = threading.Event()
    with prefetch(one_line_and_another_once(written), is_live=True) as rows:
        chunks = rows.chunks(1, 1)
        while numbers(next(chunks)) != [1]:
            pass
        assert next(chunks) == []
        written.set()
        assert [numbers(chunk) for chunk in chunks if chunk] == [[2]]


def test_an_input_that_breaks_gives_the_rows_before_it_and_then_its_error():
    def source():
        yield from lines(5)
        raise InputError("unreadable")

    with prefetch(source()) as rows:
        chunks = rows.chunks(3, 3)
        assert [numbers(next(chunks)) for _ in range(3)] == [[1, 2, 3], [4, 5], []]
        with pytest.raises(InputError, match="unreadable"):
            next(chunks)


def test_an_unforeseen_error_in_a_worker_is_raised_in_its_place():
    def load(line):
        if line.number == 5:
            raise ZeroDivisionError
        return load_at_once(line)

    received = []
    with prefetch(lines(100), load) as rows, pytest.raises(ZeroDivisionError):
        for chunk in rows.chunks(3, 3):
            received += numbers(chunk)
    assert received == [1, 2, 3, 4]


def test_chunks_grow_from_the_first_to_the_most():
    with prefetch(lines(20), ahead=20) as rows:
        assert [len(chunk) for chunk in rows.chunks(2, 7)] == [2, 4, 7, 7, 0]


def test_rows_over_the_budget_wait_for_the_caller_to_release():
    """Two rows fit, and a chunk would hold ten: what has arrived is given out, so that it can be released."""
    budget, read = MemoryBudget(limit=40), []

    def source():
        for line in lines(6):
            read.append(line.number)
            yield line

    with prefetch(source(), budget=budget, pixel_bytes=8) as rows:  # a row holds 2 + 8 bytes, and half of 40 is there
        received = []
        for chunk in rows.chunks(10, 10):
            assert len(chunk) <= 2
            assert len(read) <= len(received) + 3  # the last is read, and waits
            received += numbers(chunk)
            rows.release(chunk)
    assert received == [1, 2, 3, 4, 5, 6]


def test_a_blank_line_gives_out_the_rows_before_it():
    def source():
        yield from lines(2)
        yield Line(3, b"", 3)
        assert given_out.wait(TIMEOUT)
        yield Line(4, b"{}", 4)

    given_out = threading.Event()
    with prefetch(source()) as rows:
        chunks = (chunk for chunk in rows.chunks(10, 10) if chunk)
        assert numbers(next(chunks)) == [1, 2]
        given_out.set()
        assert numbers(next(chunks)) == [4]


def test_closing_ends_a_reader_whose_input_fails():
    """With room for one row the reader waits to put the error into the queue, and then the end."""

    def source():
        yield from lines(1)
        raise InputError("unreadable")

    before = threading.active_count()
    for _ in range(50):
        with prefetch(source(), ahead=1):
            pass
    wait_for_threads(before)


def wait_for_threads(count):
    deadline = time.monotonic() + TIMEOUT
    while threading.active_count() > count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == count


def test_closing_ends_the_reader_and_the_workers_of_an_endless_input():
    def endless():
        number = 0
        while True:
            number += 1
            yield Line(number, b"{}", 0)

    before = threading.active_count()
    with prefetch(endless()) as rows:
        next(rows.chunks(3, 3))
    wait_for_threads(before)


def loader(root=PICTURES, budget=None):
    return RowLoader(ScoringOptions(image_root=root), image_size=32, context_length=248, budget=budget)


def row(image_path, text):
    return Line(1, orjson.dumps({"image_path": image_path, "text": text}), 0)


def test_the_options_decide_how_images_are_resized():
    exact, fast = (
        RowLoader(ScoringOptions(image_root=PICTURES, fast_resize=fast), image_size=32, context_length=248)(
            row("astronaut.png", "an astronaut")
        )
        .wait()
        .pair.image.pixel_values
        for fast in (False, True)
    )
    assert not torch.equal(exact, fast)


def test_a_failed_row_holds_no_image_in_memory(tmp_path):
    whole = (PICTURES / "astronaut.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    error = loader(tmp_path)(row("a.png", "cut")).wait().pair
    assert "truncated" in str(error)
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)


def test_rows_share_an_image_and_a_text_until_the_file_is_written_anew(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    load = loader(tmp_path)
    first, second, third = (load(row("a.png", text)).wait().pair for text in ("one", "two", "one"))
    assert first.image is second.image is third.image
    assert first.text is third.text is not second.text
    Image.new("RGB", (40, 40), "green").save(tmp_path / "new.png")
    (tmp_path / "new.png").replace(tmp_path / "a.png")
    again = load(row("a.png", "one")).wait().pair
    assert again.text is first.text
    assert again.image.pixel_values[:, 0, 0].tolist() == [0, 128, 0]


def test_a_shared_image_that_is_broken_fails_each_of_its_rows(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    load = loader(tmp_path)
    errors = [load(row("a.png", text)).wait().pair for text in ("one", "two")]
    reason = f"image: not an image format that can be read: {tmp_path / 'a.png'}"
    assert [str(error) for error in errors] == [reason, reason]


def test_a_row_without_a_text_decodes_no_image(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", lambda *_: pytest.fail("was decoded"))
    assert isinstance(loader(tmp_path)(row("a.png", " ")).pair, RowError)


def test_threads_that_may_not_change_their_priority_load_all_the_same(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("os.setpriority", refuse)
    with prefetch(lines(5)) as rows:
        assert [n for chunk in rows.chunks(5, 5) for n in numbers(chunk)] == [1, 2, 3, 4, 5]


def outcome(load, line):
    loaded = load(line)
    return loaded.pair if isinstance(loaded, LoadedRow) else loaded.wait().pair


@pytest.mark.parametrize("text", ["&#" + "1" * 4301 + ";", "&amp;#" + "0" * 5000 + "65;"])
def test_an_entity_that_python_refuses_is_that_row_s_error(text):
    error = outcome(loader(), row("astronaut.png", text))
    assert error.reason == "row: unexpected error"
    assert str(error).startswith("row: unexpected error: ValueError: Exceeds the limit")
    assert len(str(error)) < 150


class RustPanic(BaseException):
    """What tokenizers raises if its Rust code panics."""


@pytest.mark.parametrize("error", [RuntimeError("no"), RustPanic("no"), RecursionError("no"), AssertionError("no")])
@pytest.mark.parametrize("where", ["load_image", "load_text", "parse_line", "check_regular_file"])
def test_whatever_goes_wrong_with_a_row_is_its_error(monkeypatch, where, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"longclip_cli.pipeline.load.{where}", fail)
    failed = outcome(loader(), row("astronaut.png", "A cat"))
    assert str(failed) == f"row: unexpected error: {type(error).__name__}: no"


def test_no_image_is_decoded_for_a_text_that_failed(monkeypatch):
    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", lambda *_, **__: pytest.fail("was decoded"))
    assert isinstance(outcome(loader(), row("astronaut.png", "&#" + "1" * 4301 + ";")), RowError)


def test_a_row_that_runs_out_of_memory_is_tried_again_alone(monkeypatch):
    budget = MemoryBudget(100)
    tries = []

    def fail_once(path, *, reserve, **_):
        with reserve(90):
            tries.append(budget._work)
            if len(tries) == 1:
                raise MemoryError
            return torch.zeros(3, 32, 32, dtype=torch.uint8)

    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", fail_once)
    assert not isinstance(outcome(loader(budget=budget), row("astronaut.png", "A cat")), RowError)
    assert tries == [90, 100]
    assert budget._work == 0


def test_a_row_that_runs_out_of_memory_twice_has_failed(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", fail)
    assert str(outcome(loader(), row("astronaut.png", "A cat"))) == "row: out of memory"


def test_what_every_row_needs_ends_the_run(monkeypatch):
    def fail(*_, **__):
        raise ResourceError("too many open files")

    monkeypatch.setattr("longclip_cli.pipeline.load.load_image", fail)
    with pytest.raises(ResourceError):
        outcome(loader(), row("astronaut.png", "A cat"))


def test_long_lines_are_parsed_within_the_budget(monkeypatch):
    reserved = []
    budget = MemoryBudget()
    reserve = budget.reserve
    monkeypatch.setattr(budget, "reserve", lambda size: reserved.append(size) or reserve(size))
    load = loader(budget=budget)
    line = Line(1, orjson.dumps({"unused": "x" * 2_000_000, "text": " "}), 0)
    load(line)
    assert reserved == [8 * len(line.content)]


def test_a_row_keeps_the_names_of_its_fields_and_not_their_values():
    loaded = loader()(Line(1, b'{"image_path": "missing.png", "text": "a", "long": "value"}', 0))
    assert loaded.record.keys == ("image_path", "text", "long")
    assert not hasattr(loaded.record, "fields")
