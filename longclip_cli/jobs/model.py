"""The model of a run: found once, then loaded."""

from __future__ import annotations

from collections.abc import Generator

from longclip_cli.jobs.run import Run
from longclip_cli.reporting.summary import ModelInUse
from longclip_cli.rows import Rows, ScoredRow
from longclip_cli.stopwatch import LOADING


def find_model(run: Run) -> ModelInUse:
    """Return the model that the options name, downloaded if it is not cached; found once in a run.

    So what is recorded is what is loaded. A device that does not exist is noticed before a download.
    """
    if run.summary.model:
        return run.summary.model
    options, scoring = run.options, run.options.scoring
    with run.summary.stopwatch.measure(LOADING):
        from longclip_cli.checkpoints.find import find_checkpoint
        from longclip_cli.checkpoints.fingerprint import checkpoint_fingerprint
        from longclip_cli.models.device import dtype_name, select_device, select_dtype

        device = select_device(options.device)
        dtype = select_dtype(scoring.precision, device)
        checkpoint = find_checkpoint(scoring.model, scoring.revision)
        fingerprint = checkpoint_fingerprint(checkpoint)
    run.summary.model = ModelInUse(str(checkpoint), fingerprint, str(device), dtype_name(dtype))
    return run.summary.model


def scored_rows(run: Run, rows: Rows, done: int) -> Generator[list[ScoredRow]]:
    """Load the model, then return a generator of these rows with their scores, a chunk at a time.

    `done` bytes of the inputs need not be scored.
    """
    options, model = run.options, find_model(run)
    with run.summary.stopwatch.measure(LOADING):
        from longclip_cli.pipeline.load import RowLoader
        from longclip_cli.pipeline.score import score_rows
        from longclip_cli.scorer import LongCLIPScorer

        scorer = LongCLIPScorer.from_pretrained(
            model.file, options.device, options.scoring.precision, batch_size=options.batch_size
        )
        sizes = scorer.model.sizes
        load = RowLoader(options.scoring, image_size=sizes.image_size, context_length=sizes.context_length)
    run.progress.start(run.plan.size, done)
    return score_rows(
        rows,
        load,
        scorer.encoder,
        run.summary.stopwatch,
        workers=options.workers,
        prefetch=options.prefetch,
        is_live=run.plan.size is None,
        stop=run.stop.requested,
    )
