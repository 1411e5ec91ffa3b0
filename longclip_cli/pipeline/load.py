"""Worker threads that turn lines into Pairs, ahead of the model but boundedly so, in order."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from hashlib import blake2b
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Literal, TypeVar

from longclip_cli.errors import LongCLIPError, Reason, RowError, quote
from longclip_cli.formats.jsonl import Fields, Record, parse_line
from longclip_cli.models.tokenizer import byte_pair_encoder, tokenize
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.budget import MemoryBudget
from longclip_cli.pipeline.cache import ImageInput, Memory, TextInput
from longclip_cli.pipeline.image_formats import configure_pillow
from longclip_cli.pipeline.images import FileVersion, check_regular_file, load_image
from longclip_cli.stopwatch import Stopwatch
from longclip_cli.storage.source import Line

SECONDS_TO_NOTICE_STOP = 0.2
LOADING_NICENESS = 5
REMEMBERED = 4096  # images, and as many texts: about 5 KB each
LONG_LINE_BYTES = 2**20  # a longer line is parsed within the memory budget
PARSED_BYTES = 8  # of memory for each byte of a line while it is parsed, in unkind cases

Loaded = TypeVar("Loaded")
Reserve = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and a text as the network takes them, or as it has encoded them before."""

    image: ImageInput
    text: TextInput


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """A record with what is to be scored, or with the error that says why it can't be."""

    record: Record
    pair: Pair | RowError


@dataclass(frozen=True, slots=True)
class LoadingRow:
    """A record whose image and text may still be loaded for an earlier row that shares them."""

    record: Record
    image: Future[ImageInput]
    text: Future[TextInput]

    def wait(self) -> LoadedRow:
        """The row once both are there."""
        try:
            return LoadedRow(self.record, Pair(self.image.result(), self.text.result()))
        except RowError as error:
            return LoadedRow(self.record, error.with_traceback(None))


class RowLoader:
    """Turns a line into a row that is loaded, or being loaded by another thread; safe to call from several.

    `image_size` is in pixels, `context_length` in tokens. Images and texts that rows have in common are
    loaded once, as long as they are among the `REMEMBERED` used last. An image that was written anew is another one.
    Images being decoded and long lines being parsed stay within `budget`. The options' `max_pixels` is Pillow's limit
    from then on, for the whole process.
    """

    def __init__(
        self, options: ScoringOptions, *, image_size: int, context_length: int, budget: MemoryBudget | None = None
    ) -> None:
        self.budget = budget or MemoryBudget()
        self.pixel_bytes = 3 * image_size**2  # of a loaded row
        self._options = options
        self._load_image = partial(load_image, image_size=image_size, options=options)
        self._context_length = context_length
        configure_pillow(options.max_pixels)
        byte_pair_encoder()  # or each worker thread would build its own
        self._images: Memory[ImageInput] = Memory(REMEMBERED)
        self._texts: Memory[TextInput] = Memory(REMEMBERED)

    def __call__(self, line: Line) -> LoadingRow | LoadedRow:
        try:
            record, fields = self._attempt(lambda reserve: parse_within(reserve, line))
        except RowError as error:
            return LoadedRow(Record(line, error), error)
        try:
            with row_errors():
                path, version, text = find_inputs(fields, self._options)
            text_input = self._texts.recall(
                digest(text), lambda: self._attempt(lambda _: load_text(text, self._context_length))
            )
            if text_input.done():
                text_input.result()  # raises, before the image is decoded for nothing
            image_input = self._images.recall(
                (path, version),
                lambda: self._attempt(lambda reserve: ImageInput(self._load_image(path, reserve=reserve))),
            )
        except RowError as error:
            return LoadedRow(record, error.with_traceback(None))
        return LoadingRow(record, image_input, text_input)

    def _attempt(self, load: Callable[[Reserve], Loaded]) -> Loaded:
        """Return what `load` gives. If memory runs out it is tried once more, while no other row is worked on.

        Raises `RowError` for all that goes wrong with one row, and other `LongCLIPError`s for what ends the run.
        """
        with row_errors():
            with suppress(MemoryError):
                return load(self.budget.reserve)
            with self.budget.alone():
                return load(lambda _: nullcontext())


@contextmanager
def row_errors() -> Iterator[None]:
    """Turn every error of one row that no other code expects into a `RowError`.

    What is no `Exception` may be an error too: tokenizers' Rust raises such.
    """
    try:
        yield
    except (LongCLIPError, KeyboardInterrupt):
        raise
    except MemoryError:
        raise RowError(Reason.OUT_OF_MEMORY) from None
    except BaseException as error:
        raise RowError(Reason.UNEXPECTED, quote(f"{type(error).__name__}: {error}")) from None


def parse_within(reserve: Reserve, line: Line) -> tuple[Record, Fields]:
    """Return `parse_line(line)`, of which a long line needs to reserve memory."""
    size = len(line.content)
    with reserve(PARSED_BYTES * size) if size > LONG_LINE_BYTES else nullcontext():
        return parse_line(line)


def find_inputs(fields: Fields, options: ScoringOptions) -> tuple[Path, FileVersion, str]:
    """Return the path of a row's image, the version of the file that is there now, and the row's text.

    Raises `RowError`.
    """
    path = options.image_root / fields.image_path(options.image_key)
    text = fields.text(options.text_key)
    return path, check_regular_file(path), text


def load_text(text: str, context_length: int) -> TextInput:
    """The tokens of a text, cut at `context_length` of them."""
    tokenized = tokenize(text, context_length)
    return TextInput(tokenized.ids, tokenized.is_cut)


def digest(text: str) -> bytes:
    """What tells one text from another, however long they are."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def yield_to_the_model() -> None:
    """Lets this thread work where the network's threads leave a core idle, or wait for what it loads.

    The threads of a matrix product wait for the last of them, so none should have to share its core.
    """
    if sys.platform == "linux":  # elsewhere this would be the priority of the whole process
        thread = threading.get_native_id()
        with suppress(OSError):  # some sandboxes forbid it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + LOADING_NICENESS)


class Mark(Enum):
    """What stands between rows in the queue."""

    PAUSE = "no row may arrive before those that did are released"
    END = "no row follows"


class Prefetch:
    """Rows loaded by worker threads while the caller is busy with earlier ones.

    One thread reads `lines`, as many as `ahead` rows before the caller and as `budget` has room for: a row holds its
    line and `pixel_bytes` there, until the caller releases it. `workers` threads load the rows. Once `stop` is set no
    more rows are given. Closing it stops the threads, except that a reader which waits for its input is left to wait.
    """

    def __init__(
        self,
        lines: Iterable[Line],
        load: Callable[[Line], LoadingRow | LoadedRow],
        *,
        workers: int,
        ahead: int,
        is_live: bool,
        stopwatch: Stopwatch,
        stop: threading.Event,
        budget: MemoryBudget,
        pixel_bytes: int,
    ) -> None:
        self._budget = budget
        self._pixel_bytes = pixel_bytes
        self._lines = lines
        self._load = load
        self._is_live = is_live
        self._stopwatch = stopwatch
        self._stop = stop
        self._queue: Queue[Future[LoadingRow | LoadedRow] | Mark] = Queue(ahead)
        self._is_closed = threading.Event()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="load", initializer=yield_to_the_model)
        # A daemon, since nothing can wake a thread that waits for a line that nobody writes.
        threading.Thread(target=self._read, name="read", daemon=True).start()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_closed.set()
        self._pool.shutdown(cancel_futures=True)

    def chunks(self, first: int, most: int) -> Iterator[list[LoadedRow]]:
        """Yield the rows in order: `first` of them, then twice as many at a time up to `most`.

        If no more have arrived, those that have are a chunk, and an empty one follows: what the caller holds back, it
        should give out. An error in reading or loading is raised once the rows before it have been given.
        """
        chunk: list[LoadedRow] = []
        size = min(first, most)
        failure: Exception | None = None
        try:
            for arrival in self._arrivals():
                if arrival is not Mark.PAUSE:
                    with self._stopwatch.measure("images"):
                        row = arrival.result()
                        chunk.append(row.wait() if isinstance(row, LoadingRow) else row)
                if chunk and (arrival is Mark.PAUSE or len(chunk) == size):
                    yield chunk
                    chunk, size = [], min(2 * size, most)
                if arrival is Mark.PAUSE:
                    yield []
        except Exception as error:
            failure = error
        if chunk:
            yield chunk
        yield []
        if failure:
            raise failure

    def release(self, rows: Iterable[LoadedRow]) -> None:
        """Give back the memory of rows that are written, so that others can be read."""
        self._budget.release(sum(self._size(row.record.line) for row in rows))

    def _size(self, line: Line) -> int:
        return len(line.content) + self._pixel_bytes

    def _arrivals(self) -> Iterator[Future[LoadingRow | LoadedRow] | Literal[Mark.PAUSE]]:
        """Yield the rows that are being loaded, and `PAUSE` where the next may be long in coming."""
        while True:
            if self._is_live and self._queue.empty():
                yield Mark.PAUSE
            with self._stopwatch.measure("input"):
                arrival = self._next()
            if arrival is Mark.END:
                return
            yield arrival

    def _next(self) -> Future[LoadingRow | LoadedRow] | Mark:
        if self._stop.is_set():
            return Mark.END
        try:
            return self._queue.get(timeout=SECONDS_TO_NOTICE_STOP)
        except Empty:  # the reader may be busy with a million blank lines
            return Mark.PAUSE

    def _read(self) -> None:
        try:
            for line in self._lines:
                if line.is_blank:
                    self._put(Mark.PAUSE)
                    continue
                self._hold(self._size(line))
                if self._is_closed.is_set():
                    return
                self._put(self._pool.submit(self._load, line))
        except Exception as error:
            failed: Future[LoadingRow | LoadedRow] = Future()
            failed.set_exception(error)
            self._put(failed)
        self._put(Mark.END)

    def _hold(self, size: int) -> None:
        """Wait until the budget has room for a row, or no row is wanted any more."""
        if not self._budget.hold(size):
            self._put(Mark.PAUSE)  # or the caller could wait for more rows before it releases those it has
            while not self._is_closed.is_set() and not self._budget.hold(size, SECONDS_TO_NOTICE_STOP):
                pass

    def _put(self, item: Future[LoadingRow | LoadedRow] | Mark) -> None:
        """Put an item into the queue once there is room, unless no row is wanted any more."""
        while not self._is_closed.is_set():
            with suppress(Full):
                self._queue.put(item, timeout=SECONDS_TO_NOTICE_STOP)
                return
