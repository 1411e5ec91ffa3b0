"""What `longclip-report` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from longclip_cli.errors import UsageError
from longclip_cli.jobs.scored_files import Keys
from longclip_cli.options import InputFormat, Option, check_not_empty

PAGE_SUFFIXES = (".html", ".htm")
FROM_RECORD = {"show_default": "from the run record"}


@dataclass(frozen=True)
class ReportOptions:
    """The options of `longclip-report`; `None` leaves them to the run record. Raises `UsageError` for empty names.

    `named` replaces the inputs in commands on the page.
    """

    inputs: tuple[str, ...]
    output: str
    summaries: tuple[Path, ...] = ()
    input_format: Annotated[
        InputFormat | None,
        Option("Format of the scored files.", "Rows", None, (), {"show_default": "by suffix, then by content"}),
    ] = None
    image_key: Annotated[str | None, Option("Field that holds the image.", "Rows", "KEY", (), FROM_RECORD)] = None
    text_key: Annotated[
        tuple[str, ...], Option("Field that holds the text; repeatable.", "Rows", "KEY", (), FROM_RECORD)
    ] = ()
    output_key: Annotated[str | None, Option("Field that holds the score.", "Rows", "KEY", (), FROM_RECORD)] = None
    image_root: Annotated[
        Path | None,
        Option(
            "Where relative image paths start.",
            "Rows",
            "FOLDER",
            (),
            FROM_RECORD | {"exists": True, "file_okay": False},
        ),
    ] = None

    named: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for value in self.inputs:
            check_not_empty("inputs", value)
        check_not_empty("output", self.output)
        for name in ("image_key", "output_key"):
            if getattr(self, name) is not None:
                check_not_empty(name, getattr(self, name))
        for value in self.text_key:
            check_not_empty("text_key", value)

    @property
    def keys(self) -> Keys:
        """The options that override run records."""
        return Keys(self.image_key, self.text_key, self.output_key, self.image_root)


def check_page_name(option: str, target: Path | int) -> None:
    """Raise `UsageError` for a path that does not end as HTML does; a FIFO or an open descriptor may have any."""
    if isinstance(target, Path) and target.suffix.lower() not in PAGE_SUFFIXES and not target.is_fifo():
        raise UsageError(f"{option} {target}: the page is HTML; give a name that ends in .html")
