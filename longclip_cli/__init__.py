"""Scores how well long captions fit their images, with LongCLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longclip_cli.version import __version__

if TYPE_CHECKING:
    from longclip_cli.dataflow import LongCLIPEvaluator
    from longclip_cli.scorer import LongCLIPScorer

__all__ = ["LongCLIPEvaluator", "LongCLIPScorer", "__version__"]


def __getattr__(name: str) -> Any:
    """The public classes, imported when they are first asked for: they need PyTorch, and `--help` does not."""
    if name == "LongCLIPScorer":
        from longclip_cli.scorer import LongCLIPScorer

        return LongCLIPScorer
    if name == "LongCLIPEvaluator":
        from longclip_cli.dataflow import LongCLIPEvaluator

        return LongCLIPEvaluator
    raise AttributeError(f"module 'longclip_cli' has no attribute {name!r}")
