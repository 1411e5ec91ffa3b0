"""Options of a command from the fields of a dataclass, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields
from inspect import Parameter, signature
from operator import getitem
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from longclip_cli.options import Option

Options = TypeVar("Options")


def with_options(*classes: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a parameter for each field of these dataclasses that is annotated with an `Option`.

    They take the place of the command's last parameter, `**values`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        *own, _ = signature(command, eval_str=True).parameters.values()
        added = [parameter for options in classes for parameter in parameters(options)]
        parameters_of_all = [*own, *added]
        command.__signature__ = signature(command).replace(parameters=parameters_of_all)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters_of_all}
        return command

    return decorate


def parameters(options: type) -> Iterator[Parameter]:
    """Yield the parameters of a command that set the fields of a dataclass."""
    hints = get_type_hints(options, include_extras=True)
    for item in fields(options):
        kind, *details = get_args(hints[item.name]) or (None,)
        shown = next((detail for detail in details if isinstance(detail, Option)), None)
        if shown:
            name = f"--{item.name.replace('_', '-')}"
            kind = list[str] if kind == tuple[str, ...] else kind  # Typer takes a tuple of one length only
            settings = {"help": shown.help, "metavar": shown.metavar, "rich_help_panel": shown.heading} | shown.settings
            annotation = getitem(Annotated, (kind, typer.Option(*shown.flags, name, **settings)))
            default = item.default if item.default_factory is MISSING else item.default_factory()
            yield Parameter(item.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def from_values(options: type[Options], values: Mapping[str, Any], **others: Any) -> Options:
    """Return the dataclass whose fields have the values of a command's options; `others` are set besides."""
    given = {item.name: values[item.name] for item in fields(options) if item.name in values}  # type: ignore[arg-type]
    return options(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}, **others
    )


class GroupedCommand(TyperCommand):
    """A command whose help shows options under the headings that they have."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one list of options for each heading."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)
