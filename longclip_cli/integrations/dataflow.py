"""`LongCLIPEvaluator`, DataFlow's operator of that name, on this package's pipeline.

It is called as DataFlow's own, and works with DataFlow's storages and any other that reads and writes a pandas
dataframe; neither of the two packages is imported here.

    from longclip_cli.dataflow import LongCLIPEvaluator

    evaluator = LongCLIPEvaluator(ckpt_path="longclip-L@336px.pt")
    evaluator.run(storage, image_key="image_path", text_key="text", output_key="clip_score")
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from threading import Event
from typing import Any, Protocol

from longclip_cli.errors import InputError, RowError, UsageError
from longclip_cli.formats.inputs import InputFields
from longclip_cli.formats.results import SCORE_DECIMALS
from longclip_cli.options import DEFAULT_MODEL, ScoringOptions, available_cores, error_key
from longclip_cli.pipeline.load import RowLoader
from longclip_cli.pipeline.score import score_rows
from longclip_cli.rows import Result, Row, ScoredRow, error_of
from longclip_cli.scorer import LongCLIPScorer
from longclip_cli.stopwatch import Stopwatch


class Storage(Protocol):
    """What the operator needs of a DataFlow storage."""

    def read(self, output_type: str) -> Any:
        """Return the data as a pandas dataframe, for `output_type` "dataframe"."""

    def write(self, data: Any) -> Any:
        """Take the dataframe of this step."""


class LongCLIPEvaluator:
    """Adds to each row of a dataframe how well its text fits its image, from 0 to 1.

    `ckpt_path`, or `model_name`, is what `longclip-score --model` takes; `device` is a PyTorch device, by default
    CUDA if there is one. Raises `CheckpointError` and `DeviceError`.
    """

    def __init__(
        self, ckpt_path: str | None = None, device: str | None = None, *, model_name: str | None = None
    ) -> None:
        if ckpt_path and model_name:
            raise UsageError("pass ckpt_path or model_name, not both")
        self._scorer = LongCLIPScorer.from_pretrained(ckpt_path or model_name or DEFAULT_MODEL, device)

    @staticmethod
    def get_desc(lang: str = "zh") -> str:
        """Return what the operator does, in Chinese or English, for DataFlow's lists of operators."""
        return "LongCLIP 长文本图文对齐分数" if lang == "zh" else "How well a long text fits its image, by LongCLIP."

    def run(
        self,
        storage: Storage,
        image_key: str = ScoringOptions.image_key,
        text_key: str = ScoringOptions.text_key[0],
        output_key: str = ScoringOptions.output_key,
        *,
        input_image_key: str | None = None,
        input_text_key: str | None = None,
    ) -> list[str]:
        """Score the storage's dataframe and write it back with the column `output_key`, whose name is returned.

        A row that cannot be scored holds null there, and one with a list of texts or images holds a list. Only if
        there are failed rows, a column with `_error` added to the name says why. `input_image_key` and
        `input_text_key` are what later DataFlow versions call the first two keys.
        Raises `InputError` if there are no such columns.
        """
        image_key, text_key = input_image_key or image_key, input_text_key or text_key
        options = ScoringOptions(image_key=image_key, text_key=(text_key,), output_key=output_key)
        dataframe = storage.read("dataframe")
        columns = list(dataframe.columns)
        if missing := [key for key in (image_key, text_key) if key not in columns]:
            raise InputError(f"no column {' and no column '.join(missing)}; there are {', '.join(map(str, columns))}")
        cells = zip(values_of(dataframe[image_key]), values_of(dataframe[text_key]), strict=True)
        results = [row.result for row in self._scored(cells, options)]
        errors = [str(error) if (error := error_of(result)) else None for result in results]
        dataframe[output_key] = [cell_of(result) for result in results]
        if any(errors):
            dataframe[error_key(output_key)] = errors
        elif error_key(output_key) in columns:
            del dataframe[error_key(output_key)]
        storage.write(dataframe)
        return [output_key]

    def _scored(self, pairs: Iterable[tuple[Any, Any]], options: ScoringOptions) -> Iterator[ScoredRow]:
        sizes = self._scorer.model.sizes
        load = RowLoader(options, image_size=sizes.image_size, context_length=sizes.context_length)
        fields = InputFields(options)
        rows = (to_row(number, image, text, options, fields) for number, (image, text) in enumerate(pairs, 1))
        for scored in score_rows(
            rows,
            load,
            self._scorer.encoder,
            Stopwatch(),
            workers=available_cores(),
            prefetch=None,
            is_live=False,
            stop=Event(),
        ):
            yield from scored


def to_row(number: int, image: Any, text: Any, options: ScoringOptions, fields: InputFields) -> Row:
    """Return the row of two cells of a dataframe."""
    inputs = fields.find({options.image_key: plain(image), options.text_key[0]: plain(text)})
    return Row(number, inputs, size=2 * len(text) if isinstance(text, str) else 0)


def cell_of(result: Result) -> float | list[float | None] | None:
    """Return the cell of a result, with `None` for each score that is missing."""
    if isinstance(result, tuple):
        return [None if isinstance(score, RowError) else round(score, SCORE_DECIMALS) for score in result]
    return None if isinstance(result, RowError) else round(result, SCORE_DECIMALS)


def values_of(column: Any) -> Iterable[Any]:
    """Return the cells of a column of a dataframe, with `None` for each of pandas' own nulls."""
    values: Iterable[Any] = column.astype(object).where(column.notna(), None)
    return values


def plain(value: Any) -> Any:
    """Return a cell's value as Python's own type: a path as a string, and a NumPy value or array as what it holds."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value
