"""Worker threads that turn lines into Pairs, ahead of the model but boundedly so, in order."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from queue import Empty, Queue

from longclip_cli.errors import RowError
from longclip_cli.images import check_regular_file, limit_pixels, load_image
from longclip_cli.inputs import Line
from longclip_cli.options import ScoreOptions
from longclip_cli.records import Record, parse_line
from longclip_cli.remembering import ImageInput, Memory, TextInput
from longclip_cli.stopwatch import Stopwatch
from longclip_cli.tokenizer import byte_pair_encoder, tokenize

SECONDS_TO_NOTICE_STOP = 0.2
LOADING_NICENESS = 5
REMEMBERED = 4096  # images, and as many texts: about 5 KB each


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
    The options' `max_pixels` is Pillow's limit from then on, for the whole process.
    """

    def __init__(self, options: ScoreOptions, *, image_size: int, context_length: int) -> None:
        self._options = options
        self._load_image = partial(
            load_image,
            image_size=image_size,
            max_pixels=options.max_pixels,
            fast_decode=options.fast_decode,
            fast_resize=options.fast_resize,
        )
        self._context_length = context_length
        limit_pixels(options.max_pixels)
        byte_pair_encoder()  # or each worker thread would build its own
        self._images: Memory[ImageInput] = Memory(REMEMBERED)
        self._texts: Memory[TextInput] = Memory(REMEMBERED)

    def __call__(self, line: Line) -> LoadingRow | LoadedRow:
        record = parse_line(line)
        try:
            path = self._options.image_root / record.image_path(self._options.image_key)
            text = record.text(self._options.text_key)
            version = check_regular_file(path)
            return LoadingRow(
                record,
                text=self._texts.recall(digest(text), lambda: load_text(text, self._context_length)),
                image=self._images.recall((path, version), lambda: ImageInput(self._load_image(path))),
            )
        except RowError as error:
            return LoadedRow(record, error.with_traceback(None))


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


class Prefetch:
    """Rows loaded by worker threads while the caller is busy with earlier ones.

    One thread reads `lines`, as many as `ahead` rows before the caller; `workers` threads load them. Once `stop`
    is set no more rows are given. Closing it stops the threads, except that a reader which waits for its input is
    left to wait.
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
    ) -> None:
        self._lines = lines
        self._load = load
        self._is_live = is_live
        self._stopwatch = stopwatch
        self._stop = stop
        self._queue: Queue[Future[LoadingRow | LoadedRow] | None] = Queue(ahead)  # None is the end
        self._is_closed = threading.Event()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="load", initializer=yield_to_the_model)
        # A daemon, since nothing can wake a thread that waits for a line that nobody writes.
        threading.Thread(target=self._read, name="read", daemon=True).start()

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_closed.set()
        with suppress(Empty):
            while True:  # makes room, so that a reader that waits for it sees the event
                self._queue.get_nowait()
        self._pool.shutdown(cancel_futures=True)

    def chunks(self, first: int, most: int) -> Iterator[list[LoadedRow]]:
        """The rows in order: `first` of them, then twice as many at a time up to `most`, or as many as have arrived.

        An empty chunk says that no more have arrived: what the caller holds back, it should give out.
        An error in reading or loading is raised once the rows before it have been given.
        """
        chunk: list[LoadedRow] = []
        size = min(first, most)
        failure: Exception | None = None
        try:
            for future in self._arrivals():
                if future:
                    with self._stopwatch.measure("images"):
                        row = future.result()
                        chunk.append(row.wait() if isinstance(row, LoadingRow) else row)
                if chunk and (not future or len(chunk) == size):
                    yield chunk
                    chunk, size = [], min(2 * size, most)
                if not future:
                    yield []
        except Exception as error:
            failure = error
        if chunk:
            yield chunk
        yield []
        if failure:
            raise failure

    def _arrivals(self) -> Iterator[Future[LoadingRow | LoadedRow] | None]:
        """The rows that are being loaded; `None` before a wait for a line that has yet to be written."""
        while True:
            if self._is_live and self._queue.empty():
                yield None
            with self._stopwatch.measure("input"):
                future = self._next()
            if not future:
                return
            yield future

    def _next(self) -> Future[LoadingRow | LoadedRow] | None:
        while not self._stop.is_set():
            with suppress(Empty):
                return self._queue.get(timeout=SECONDS_TO_NOTICE_STOP)
        return None

    def _read(self) -> None:
        try:
            for line in self._lines:
                self._queue.put(self._pool.submit(self._load, line))
                if self._is_closed.is_set():
                    return
        except Exception as error:
            if self._is_closed.is_set():  # the pool takes no more
                return
            failed: Future[LoadingRow | LoadedRow] = Future()
            failed.set_exception(error)
            self._queue.put(failed)
        self._queue.put(None)
