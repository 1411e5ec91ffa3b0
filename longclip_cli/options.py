"""What a run is asked to do. Every option of `longclip-score` is defined here once, with its default and its help."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from longclip_cli.errors import UsageError

STANDARD_STREAM = "-"
DEFAULT_MODEL = "BeichenZhang/LongCLIP-L-336px"
Precision = Literal["auto", "fp32", "fp16", "bf16"]
InputFormat = Literal["jsonl", "json", "csv", "tsv", "parquet", "webdataset"]
Reduce = Literal["none", "mean", "min", "max"]


def available_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def error_key(output_key: str) -> str:
    """Return the field that says why a row has no score."""
    return f"{output_key}_error"


def check_not_empty(name: str, value: str) -> None:
    """Raise `UsageError` for an empty string."""
    if not value:
        what = "INPUT" if name == "inputs" else f"--{name.replace('_', '-')}"
        raise UsageError(f"{what} is empty; is a shell variable unset?")


@dataclass(frozen=True)
class Option:
    """How the command line presents a field: one line of help, its heading, and what Typer's `Option` takes.

    `flags` come before the long one that the field's name gives; `settings` are keywords of `typer.Option`.
    """

    help: str
    heading: str
    metavar: str | None = None
    flags: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


ROWS, MODEL, IMAGES, SPEED, OUTPUT = "Rows", "Model", "Images", "Speed", "Output"


@dataclass(frozen=True)
class ScoringOptions:
    """All options that affect what rows look like; the run record is derived from it.

    A run is only resumed with the same values of all of them. Raises `UsageError` for empty names, and for an output
    key that would overwrite a field that is read.
    """

    input_format: Annotated[
        InputFormat | None,
        Option("Format of the inputs.", ROWS, None, (), {"show_default": "by suffix, then by content"}),
    ] = None
    limit: Annotated[
        int | None,
        Option("Score only the first N rows of each input.", ROWS, "N", (), {"min": 1, "show_default": "all"}),
    ] = None
    image_key: Annotated[str, Option("Field that holds the image, or a path to it as in jq: .a[0].b", ROWS, "KEY")] = (
        "image_path"
    )
    text_key: Annotated[
        tuple[str, ...], Option("Field that holds the text or a list of texts, or a path; repeatable.", ROWS, "KEY")
    ] = ("text",)
    strip: Annotated[
        tuple[str, ...], Option("Remove TEXT from texts, such as '<image>'; repeatable.", ROWS, "TEXT")
    ] = ()
    reduce: Annotated[Reduce, Option("What becomes of several scores in a row; none keeps the list.", ROWS)] = "none"
    output_key: Annotated[str, Option("Field to add.", ROWS, "KEY")] = "clip_score"
    image_root: Annotated[
        Path,
        Option(
            "Where relative image paths start.",
            IMAGES,
            "FOLDER",
            (),
            {"exists": True, "file_okay": False, "show_default": "current folder"},
        ),
    ] = Path()
    max_pixels: Annotated[int, Option("Reject larger images before decoding.", IMAGES, "N", (), {"min": 1})] = (
        100_000_000
    )
    exif_orientation: Annotated[
        bool, Option("Turn photos upright, as their EXIF orientation says; the original does not.", IMAGES)
    ] = False
    fast_decode: Annotated[
        bool, Option("Decode large JPEGs at a reduced size: faster, scores differ slightly.", IMAGES)
    ] = False
    fast_resize: Annotated[bool, Option("Resize with PyTorch, not Pillow: faster, nearly the same scores.", IMAGES)] = (
        False
    )
    model: Annotated[
        str,
        Option(
            "Checkpoint file, folder, Hub id, longclip-b, longclip-l, longclip-l-336, or demo, which is built in.",
            MODEL,
            "MODEL",
            ("-m",),
            {"envvar": "LONGCLIP_MODEL"},
        ),
    ] = DEFAULT_MODEL
    revision: Annotated[
        str | None,
        Option("Branch, tag or commit of a model on the Hub.", MODEL, "REV", (), {"show_default": "main"}),
    ] = None
    precision: Annotated[Precision, Option("Arithmetic; auto is fp16 on a GPU and fp32 on the CPU.", MODEL)] = "auto"

    def __post_init__(self) -> None:
        for name in ("model", "image_key", "output_key"):
            check_not_empty(name, getattr(self, name))
        for name in ("text_key", "strip"):
            for value in getattr(self, name):
                check_not_empty(name, value)
        for key in (self.image_key, *self.text_key):
            if key in (self.output_key, error_key(self.output_key)):
                raise UsageError(
                    f"--output-key {self.output_key} would overwrite the field '{key}' that rows are read from"
                )


@dataclass(frozen=True)
class ScoreOptions:
    """The options of `longclip-score`; `None` leaves a choice to the device.

    `batch_size` counts images, `prefetch` and `max_errors` rows. Raises `UsageError` for an empty name, and for
    `resume` or `report` without an output file.
    """

    inputs: tuple[str, ...] = (STANDARD_STREAM,)
    output: Annotated[
        str, Option("Scored file, or a folder for several inputs; - is standard output.", OUTPUT, "FILE", ("-o",))
    ] = STANDARD_STREAM
    scoring: ScoringOptions = ScoringOptions()
    device: Annotated[
        str,
        Option(
            "auto, cpu, cuda, cuda:1 or mps; auto is cuda if there is one.",
            MODEL,
            "DEVICE",
            (),
            {"envvar": "LONGCLIP_DEVICE"},
        ),
    ] = "auto"
    batch_size: Annotated[
        int | None,
        Option("Images in one forward pass.", SPEED, "N", ("-b",), {"min": 1, "show_default": "by device"}),
    ] = None
    workers: Annotated[
        int, Option("Threads that decode images.", SPEED, "N", ("-j",), {"min": 1, "show_default": "cores"})
    ] = field(default_factory=available_cores)
    prefetch: Annotated[
        int | None, Option("Rows decoded ahead, at most.", SPEED, "N", (), {"min": 1, "show_default": "6 batches"})
    ] = None
    resume: Annotated[bool, Option("Continue an interrupted run of the same command.", OUTPUT)] = False
    max_errors: Annotated[
        int | None,
        Option("Stop after more than N failed rows.", OUTPUT, "N", (), {"min": 0, "show_default": "no limit"}),
    ] = None
    summary: Annotated[
        Path | None, Option("Also write the summary as JSON.", OUTPUT, "FILE", (), {"show_default": "none"})
    ] = None
    report: Annotated[
        Path | None,
        Option("Write a page about the scores when the run ends.", OUTPUT, "FILE.html", (), {"show_default": "none"}),
    ] = None

    def __post_init__(self) -> None:
        for path in self.inputs:
            check_not_empty("inputs", path)
        check_not_empty("output", self.output)
        if self.resume and self.output == STANDARD_STREAM:
            raise UsageError("--resume needs an output file; give one with -o")
        if self.report and self.output == STANDARD_STREAM:
            raise UsageError("--report needs an output file; give one with -o")
