"""The flow itself: rows, loaded rows, chunks, scores, scored rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from threading import Event

from longclip_cli.errors import RowError
from longclip_cli.pipeline.encode import Encoder, PendingScores
from longclip_cli.pipeline.load import LoadedRow, Pair, RowLoader
from longclip_cli.pipeline.prefetch import Prefetch
from longclip_cli.rows import Rows, Score, ScoredRow, row_result
from longclip_cli.stopwatch import Stopwatch


def score_rows(
    rows: Rows,
    load: RowLoader,
    encoder: Encoder,
    stopwatch: Stopwatch,
    *,
    workers: int,
    prefetch: int | None,
    is_live: bool,
    stop: Event,
) -> Generator[list[ScoredRow]]:
    """Yield every row with its result, in order, a chunk at a time.

    While the device works on one chunk the next is being loaded. If the input is live, each row is scored as soon as
    it is there. A chunk is empty where no more rows have arrived and all before are out. An error in the input is
    raised once the rows before it are out. Once `stop` is set, no rows follow those in progress.
    """
    ahead = prefetch or 2 * encoder.chunk_rows
    in_flight: deque[tuple[list[LoadedRow], PendingScores]] = deque()
    with Prefetch(
        rows,
        load,
        workers=workers,
        ahead=ahead,
        is_live=is_live,
        stopwatch=stopwatch,
        stop=stop,
        budget=load.budget,
        pixel_bytes=load.pixel_bytes,
    ) as loaded:
        for chunk in loaded.chunks(encoder.batch_size, min(ahead, encoder.chunk_rows)):  # empty: no more for now
            if chunk:
                with stopwatch.measure("model"):
                    in_flight.append((chunk, encoder.submit(list(pairs_of(chunk)))))
            while len(in_flight) > (encoder.chunks_in_flight if chunk else 0):
                submitted, pending = in_flight.popleft()
                with stopwatch.measure("model"):
                    scores = pending.wait()
                yield list(join(submitted, scores))
                loaded.release(submitted)
            if not chunk:
                yield []


def pairs_of(rows: Iterable[LoadedRow]) -> Iterator[Pair]:
    """Yield the pairs of rows that can be scored."""
    for loaded in rows:
        if not isinstance(loaded.pairs, RowError):
            yield from (pair for pair in loaded.pairs if isinstance(pair, Pair))


def join(rows: Iterable[LoadedRow], scores: Iterable[Score]) -> Iterator[ScoredRow]:
    """Yield rows with the scores of those of their pairs that have no error."""
    remaining = iter(scores)
    for loaded in rows:
        if isinstance(loaded.pairs, RowError):
            yield ScoredRow(loaded.row, loaded.pairs)
        else:
            scored = tuple(pair if isinstance(pair, RowError) else next(remaining) for pair in loaded.pairs)
            whole = [pair for pair in loaded.pairs if isinstance(pair, Pair)]
            texts_cut = len({id(pair.text) for pair in whole if pair.text.is_cut})
            rotations = len({id(pair.image) for pair in whole if pair.image.is_rotated})
            yield ScoredRow(loaded.row, row_result(scored, loaded.row.inputs), texts_cut, rotations)
