"""Write the option tables of cli.md from `longclip_cli.options`: `make docs` runs this."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from longclip_cli.options import Option, ScoreOptions, ScoringOptions

PAGE = Path(__file__).with_name("cli.md")
TABLE = re.compile(r"(?<=<!-- options: )(\w+)( -->\n\n).*?(?=\n\n)", re.DOTALL)


def option_rows() -> dict[str, list[str]]:
    """Return the rows of each heading's table."""
    rows: dict[str, list[str]] = {}
    for options in (ScoringOptions, ScoreOptions):
        hints = get_type_hints(options, include_extras=True)
        for field in fields(options):
            kind, *details = get_args(hints[field.name]) or (None,)
            for option in (detail for detail in details if isinstance(detail, Option)):
                values = next((get_args(part) for part in (kind, *get_args(kind)) if get_origin(part) is Literal), ())
                choices = f"<{'|'.join(values)}>" if values else option.metavar
                name = ", ".join([*option.flags, f"--{field.name.replace('_', '-')}"])
                shown = f"{name} {choices}".replace("|", "\\|") if choices else name
                default = field.default if field.default_factory is MISSING else None
                default = ", ".join(default) or None if isinstance(default, tuple) else default
                default = option.settings.get("show_default", f"`{default}`" if choices and default else "")
                variable = option.settings.get("envvar")
                also = f" Also from `{variable}`." if variable else ""
                rows.setdefault(option.heading, []).append(f"| `{shown}` | {option.help}{also} | {default} |")
    return rows


def with_tables(page: str) -> str:
    """Return a page whose tables of options, each behind `<!-- options: Heading -->`, are up to date."""
    rows = option_rows()

    def table(match: re.Match[str]) -> str:
        return "\n".join([f"{match[1]}{match[2]}| option | meaning | default |", "|---|---|---|", *rows[match[1]]])

    return TABLE.sub(table, page)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
