"""Rows loaded ahead by worker threads."""

import threading
import time
from dataclasses import replace

import pytest
from helpers import TIMEOUT, wait_until

from longclip_cli.errors import InputError, Reason, RowError
from longclip_cli.pipeline.budget import MemoryBudget
from longclip_cli.pipeline.load import LoadedRow
from longclip_cli.pipeline.prefetch import TEXT_BYTES, Prefetch
from longclip_cli.rows import Mark, Row, RowInputs
from longclip_cli.stopwatch import Stopwatch

NEVER = threading.Event()
NO_INPUTS = RowError(Reason.UNEXPECTED)


def rows_of(count):
    return (Row(number, NO_INPUTS, size=2) for number in range(1, count + 1))


def load_at_once(row):
    return LoadedRow(row, row.inputs)


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
    return [loaded.row.number for loaded in chunk]


def one_line_and_another_once(written):
    yield from rows_of(1)
    assert written.wait(TIMEOUT)
    yield Row(2, NO_INPUTS)


def test_rows_come_in_order_although_they_load_out_of_order():
    def load(row):
        time.sleep(0.002 * (row.number % 4))
        return load_at_once(row)

    with prefetch(rows_of(50), load) as rows:
        assert [n for chunk in rows.chunks(7, 7) for n in numbers(chunk)] == list(range(1, 51))


def test_chunks_of_a_file_are_full_and_an_empty_one_ends_them():
    with prefetch(rows_of(10)) as rows:
        assert [numbers(chunk) for chunk in rows.chunks(4, 4)] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], []]


def test_no_more_rows_are_loaded_ahead_than_asked_for():
    loaded = []

    def load(row):
        loaded.append(row.number)
        return load_at_once(row)

    with prefetch(rows_of(1000), load, ahead=5) as rows:
        chunks = rows.chunks(3, 3)
        next(chunks)
        time.sleep(0.2)
        # Three were taken, five are in the queue, and one waits to enter it.
        assert len(loaded) <= 3 + 5 + 1


def test_a_live_input_s_row_does_not_wait_for_the_next_line():
    written = threading.Event()
    with prefetch(one_line_and_another_once(written), is_live=True) as rows:
        chunks = (chunk for chunk in rows.chunks(100, 100) if chunk)
        assert numbers(next(chunks)) == [1]
        written.set()
        assert numbers(next(chunks)) == [2]


def test_an_empty_chunk_comes_before_a_wait():
    written = threading.Event()
    with prefetch(one_line_and_another_once(written), is_live=True) as rows:
        chunks = rows.chunks(1, 1)
        while numbers(next(chunks)) != [1]:
            pass
        assert next(chunks) == []
        written.set()
        assert [numbers(chunk) for chunk in chunks if chunk] == [[2]]


def test_an_unreadable_input_gives_its_rows_and_then_its_error():
    def source():
        yield from rows_of(5)
        raise InputError("unreadable")

    with prefetch(source()) as rows:
        chunks = rows.chunks(3, 3)
        assert [numbers(next(chunks)) for _ in range(3)] == [[1, 2, 3], [4, 5], []]
        with pytest.raises(InputError, match="unreadable"):
            next(chunks)


def test_a_panic_while_rows_are_read_ends_the_run():
    """What is no `Exception` would end the reader's thread, and the caller would wait for ever."""

    def source():
        yield from rows_of(2)
        raise BaseException("panic")

    with prefetch(source()) as rows:
        chunks = (chunk for chunk in rows.chunks(3, 3) if chunk)
        assert numbers(next(chunks)) == [1, 2]
        with pytest.raises(InputError, match="panic"):
            next(chunks)


def test_an_unexpected_error_in_a_worker_is_raised_in_order():
    def load(row):
        if row.number == 5:
            raise ZeroDivisionError
        return load_at_once(row)

    received = []
    with prefetch(rows_of(100), load) as rows, pytest.raises(ZeroDivisionError):
        for chunk in rows.chunks(3, 3):
            received += numbers(chunk)
    assert received == [1, 2, 3, 4]


def test_chunks_grow_from_the_first_to_the_most():
    with prefetch(rows_of(20), ahead=20) as rows:
        assert [len(chunk) for chunk in rows.chunks(2, 7)] == [2, 4, 7, 7, 0]


def test_rows_over_the_budget_wait_for_the_caller_to_release():
    """Two rows fit and a chunk would hold ten, so smaller chunks are given out and can be released."""
    row_bytes = 2 + 2 * 8 + TEXT_BYTES  # of a row with two images
    budget, read = MemoryBudget(limit=4 * row_bytes), []

    def source():
        for row in rows_of(6):
            read.append(row.number)
            yield replace(row, inputs=RowInputs(("a.png", "b.png"), ("A cat",)))

    with prefetch(source(), budget=budget, pixel_bytes=8) as rows:  # rows may hold half of the budget
        received = []
        for chunk in rows.chunks(10, 10):
            assert len(chunk) <= 2
            assert len(read) <= len(received) + 3  # the last is read, and waits
            received += numbers(chunk)
            rows.release(chunk)
    assert received == [1, 2, 3, 4, 5, 6]


def test_a_pause_flushes_the_rows_before_it():
    def source():
        yield from rows_of(2)
        yield Mark.PAUSE
        assert given_out.wait(TIMEOUT)
        yield Row(4, NO_INPUTS)

    given_out = threading.Event()
    with prefetch(source()) as rows:
        chunks = (chunk for chunk in rows.chunks(10, 10) if chunk)
        assert numbers(next(chunks)) == [1, 2]
        given_out.set()
        assert numbers(next(chunks)) == [4]


def test_closing_ends_a_reader_whose_input_fails():
    """If the queue holds one row, the reader waits to put the error into it, and then the end."""

    def source():
        yield from rows_of(1)
        raise InputError("unreadable")

    before = threading.active_count()
    for _ in range(50):
        with prefetch(source(), ahead=1):
            pass
    wait_for_threads(before)


def wait_for_threads(count):
    wait_until(lambda: threading.active_count() <= count)
    assert threading.active_count() == count


def test_closing_ends_the_reader_and_the_workers_of_an_endless_input():
    def endless():
        number = 0
        while True:
            number += 1
            yield Row(number, NO_INPUTS)

    before = threading.active_count()
    with prefetch(endless()) as rows:
        next(rows.chunks(3, 3))
    wait_for_threads(before)


def test_threads_that_may_not_change_priority_still_load(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr("os.setpriority", refuse)
    with prefetch(rows_of(5)) as rows:
        assert [n for chunk in rows.chunks(5, 5) for n in numbers(chunk)] == [1, 2, 3, 4, 5]
