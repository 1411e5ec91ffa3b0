"""The command `longclip-convert`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from longclip_cli.errors import LongCLIPError
from longclip_cli.storage.streams import open_standard_streams

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def convert(
    model: Annotated[str, typer.Argument(metavar="IN", help="Checkpoint file, folder, Hub id or short name.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="File to write.")],
    dtype: Annotated[
        Literal["fp32", "fp16", "bf16"] | None,
        typer.Option(show_default="as they are", help="Type of the weights in the file."),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(metavar="REV", show_default="main", help="Branch, tag or commit of a model on the Hub."),
    ] = None,
) -> None:
    """Write a LongCLIP or CLIP checkpoint of any format as one safetensors file with the original tensor names.

    Such a file loads fast and cannot hold code. The sizes of the network are printed.

    \b
    longclip-convert longclip-L@336px.pt longclip-l-336.safetensors --dtype fp16
    """
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from longclip_cli.checkpoints.convert import convert_checkpoint
    from longclip_cli.models.device import PRECISIONS

    try:
        typer.echo(convert_checkpoint(model, target, PRECISIONS[dtype] if dtype else None, revision))
    except LongCLIPError as error:
        typer.echo(f"longclip-convert: {error}", err=True)
        raise typer.Exit(error.exit_status) from error


def main() -> None:
    """Run the console script."""
    open_standard_streams()
    app()
