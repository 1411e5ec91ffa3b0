"""Scored files, each with what is known of the run that has written it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longclip_cli.errors import UsageError
from longclip_cli.formats.detect import format_of_name
from longclip_cli.formats.webdataset import TEXT_KEY, WebDataset
from longclip_cli.jobs.plan import inputs_at
from longclip_cli.jobs.run_record import RunRecord, is_record, read_record
from longclip_cli.options import STANDARD_STREAM, InputFormat, ScoreOptions, ScoringOptions
from longclip_cli.storage.side_files import RECORD, SIDE_FOLDER

SAMPLE_KEY = "__key__"  # the field that names the sample of an archive that a row was


@dataclass(frozen=True)
class Keys:
    """Options that override those in a run record, unless `None` or empty."""

    image_key: str | None = None
    text_key: tuple[str, ...] = ()
    output_key: str | None = None
    image_root: Path | None = None


@dataclass(frozen=True)
class ScoredFile:
    """A scored file, the options that its rows are read with, and the record of its run if there is one."""

    path: str
    scoring: ScoringOptions
    record: RunRecord | None


def find_scored_files(
    paths: tuple[str, ...], output: str, wanted: InputFormat | None, keys: Keys
) -> Iterator[ScoredFile]:
    """Yield the scored files at these paths, and in folders there.

    Raises `UsageError` for a folder with files of several formats and for a file that is there twice, `InputError` for
    a folder without a file.
    """
    seen: set[str] = set()
    options = ScoreOptions(output=output, scoring=ScoringOptions(input_format=wanted))
    for path in paths:
        for found in inputs_at(path, options, ()):
            if found.path in seen:
                raise UsageError(f"{found.path} is given twice")
            seen.add(found.path)
            record = find_record(found.path)
            yield ScoredFile(found.path, scoring_of(record, wanted, keys), record)


def find_record(path: str) -> RunRecord | None:
    """Return the record of the run that has written a file: the one beside it, or in a folder of side files above."""
    if path == STANDARD_STREAM:
        return None
    file = Path(path).resolve()
    beside = file.with_name(file.name + RECORD)
    above = (folder / SIDE_FOLDER / f"{file.relative_to(folder)}{RECORD}" for folder in file.parents)
    for place in (beside, *above):
        if is_record(place):
            return read_record(place)
    return None


def scoring_of(record: RunRecord | None, wanted: InputFormat | None, keys: Keys) -> ScoringOptions:
    """Return the options that a file's rows are read with: those of its run, overridden by `keys`."""
    compared = record.compared if record else {}
    default = ScoringOptions()
    reduce = compared.get("reduce", default.reduce)
    image_key = compared.get("image_key", default.image_key)
    text_key = several(compared.get("text_key")) or default.text_key
    image_root = Path(compared.get("image_root", "."))
    if record and is_of_archive(record):
        # The rows do not hold the images. This path is no file, so no picture is shown, and its name is the sample's.
        image_key, image_root = SAMPLE_KEY, Path(record.input_file or "/dev/null")
        text_key = (TEXT_KEY,) if text_key == default.text_key else text_key
    return ScoringOptions(
        input_format=wanted,
        image_key=keys.image_key or image_key,
        text_key=keys.text_key or text_key,
        output_key=keys.output_key or compared.get("output_key", default.output_key),
        image_root=keys.image_root or image_root,
        strip=several(compared.get("strip")),
        reduce=reduce if reduce in ("mean", "min", "max") else "none",  # type: ignore[arg-type]
        exif_orientation=compared.get("exif_orientation") == "on",
        max_pixels=number(compared.get("max_pixels")) or default.max_pixels,
    )


def is_of_archive(record: RunRecord) -> bool:
    """Return whether the rows of a run were the samples of a tar archive."""
    named = format_of_name(record.input_file) if record.input_file else None
    return isinstance(named, WebDataset) or record.compared.get("input_format") == WebDataset.name


def several(text: str | None) -> tuple[str, ...]:
    """Return the values that a record has as one text (see `run_record.as_text`)."""
    return () if text in (None, "", "none") else tuple(text.split(", "))


def number(text: str | None) -> int | None:
    """Return the positive number that a record has as a text; `None` if it has none."""
    return int(text) if text and text.isdecimal() and len(text) < 12 and int(text) > 0 else None
