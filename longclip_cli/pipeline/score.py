"""The flow itself: rows, loaded rows, chunks, scores, scored rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain, islice
from threading import Event

from longclip_cli.errors import RowError
from longclip_cli.pipeline.encode import Encoder, PendingScores
from longclip_cli.pipeline.load import LoadedRow, Pair, RowLoader
from longclip_cli.pipeline.mismatched import DrawnScores, MismatchedPairs
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
    mismatched = MismatchedPairs()
    in_flight: deque[tuple[list[LoadedRow], PendingScores, DrawnScores]] = deque()
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
                pairs = list(pairs_of(chunk))
                with stopwatch.measure("model"):
                    pending = encoder.submit(pairs)
                with stopwatch.measure("mismatched pairs"):
                    in_flight.append((chunk, pending, mismatched.draw(pairs)))
            while len(in_flight) > (encoder.chunks_in_flight if chunk else 0):
                submitted, pending, drawn = in_flight.popleft()
                with stopwatch.measure("model"):
                    scores = pending.wait()
                with stopwatch.measure("mismatched pairs"):
                    others = drawn.wait()
                yield list(join(submitted, scores, others))
                loaded.release(submitted)
            if not chunk:
                yield []


def pairs_of(rows: Iterable[LoadedRow]) -> Iterator[Pair]:
    """Yield the pairs of rows that can be scored."""
    for loaded in rows:
        if not isinstance(loaded.pairs, RowError):
            yield from (pair for pair in loaded.pairs if isinstance(pair, Pair))


def join(
    rows: Iterable[LoadedRow], scores: Iterable[Score], mismatched: Iterable[tuple[float, ...]]
) -> Iterator[ScoredRow]:
    """Yield rows with the scores of those of their pairs that have no error and the mismatched ones drawn for them."""
    remaining, drawn = iter(scores), iter(mismatched)
    for loaded in rows:
        if isinstance(loaded.pairs, RowError):
            yield ScoredRow(loaded.row, loaded.pairs)
        else:
            scored = tuple(pair if isinstance(pair, RowError) else next(remaining) for pair in loaded.pairs)
            whole = [pair for pair in loaded.pairs if isinstance(pair, Pair)]
            texts_cut = len({id(pair.text) for pair in whole if pair.text.is_cut})
            rotations = len({id(pair.image) for pair in whole if pair.image.is_rotated})
            others = tuple(chain.from_iterable(islice(drawn, len(whole))))
            yield ScoredRow(loaded.row, row_result(scored, loaded.row.inputs), texts_cut, rotations, others)
