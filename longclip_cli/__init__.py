"""Scores how well long captions fit their images, with LongCLIP."""

__version__ = "0.1.0"
