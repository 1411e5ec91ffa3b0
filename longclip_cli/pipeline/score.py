"""The flow itself: lines, loaded rows, chunks, scores, scored rows."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from threading import Event

from longclip_cli.errors import RowError
from longclip_cli.formats.jsonl import Record
from longclip_cli.pipeline.load import LoadedRow, Pair, Prefetch, RowLoader
from longclip_cli.scorer import NOT_A_NUMBER, LongCLIPScorer, PendingScores
from longclip_cli.stopwatch import Stopwatch
from longclip_cli.storage.source import Line


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A record with its score in [0, 1], or with the error that says why it has none.

    `is_cut` tells that the text was longer than the network reads.
    """

    record: Record
    result: float | RowError
    is_cut: bool


def score_lines(
    lines: Iterable[Line],
    load: RowLoader,
    scorer: LongCLIPScorer,
    stopwatch: Stopwatch,
    *,
    workers: int,
    prefetch: int | None,
    is_live: bool,
    stop: Event,
) -> Generator[list[ScoredRow]]:
    """Every line's row with its score, in order, a chunk at a time.

    While the device works on one chunk the next is being loaded. No row waits for a line that has yet
    to be written (`is_live`). An error in the input is raised once the rows before it are out,
    and once `stop` is set the rows in hand are the last.
    """
    ahead = prefetch or 2 * scorer.chunk_rows
    in_flight: deque[tuple[list[LoadedRow], PendingScores]] = deque()
    with Prefetch(
        lines,
        load,
        workers=workers,
        ahead=ahead,
        is_live=is_live,
        stopwatch=stopwatch,
        stop=stop,
        budget=load.budget,
        pixel_bytes=load.pixel_bytes,
    ) as rows:
        for chunk in rows.chunks(scorer.batch_size, min(ahead, scorer.chunk_rows)):  # an empty one: no more for now
            if chunk:
                with stopwatch.measure("model"):
                    pairs = [row.pair for row in chunk if isinstance(row.pair, Pair)]
                    in_flight.append((chunk, scorer.submit(pairs)))
            while len(in_flight) > (scorer.chunks_in_flight if chunk else 0):
                scored, pending = in_flight.popleft()
                with stopwatch.measure("model"):
                    scores = pending.wait()
                yield list(join(scored, scores))
                rows.release(scored)


def join(rows: Iterable[LoadedRow], scores: Iterable[float]) -> Iterator[ScoredRow]:
    """Rows with the scores of those that have no error."""
    remaining = iter(scores)
    for row in rows:
        if isinstance(row.pair, RowError):
            yield ScoredRow(row.record, row.pair, is_cut=False)
        else:
            score = next(remaining)
            yield ScoredRow(row.record, score if math.isfinite(score) else NOT_A_NUMBER, row.pair.text.is_cut)
