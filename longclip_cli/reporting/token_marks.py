"""Where in a text the tokens end that a network reads."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from longclip_cli.models.tokenizer import byte_pair_encoder, clean

CLIP_LENGTH = 77  # tokens that CLIP reads, with the start and the end token
CONTEXT_LENGTH = 248  # tokens that LongCLIP reads
SPECIAL_TOKENS = 2


@dataclass(frozen=True)
class MarkedText:
    """A text in three parts: what CLIP reads, what only LongCLIP reads, and what neither reads."""

    read: str
    long: str = ""
    cut: str = ""


def mark_tokens(text: str) -> MarkedText:
    """Return a text split after the tokens that CLIP and LongCLIP read."""
    if token_count(text) + SPECIAL_TOKENS <= CLIP_LENGTH:
        return MarkedText(text)
    words = list(re.finditer(r"\S+", text))
    first, second = (end_of_tokens(text, words, length - SPECIAL_TOKENS) for length in (CLIP_LENGTH, CONTEXT_LENGTH))
    return MarkedText(text[:first], text[first:second], text[second:])


def token_count(text: str) -> int:
    """Return how many tokens a text has, without the start and the end token."""
    return len(byte_pair_encoder().encode(clean(text)[0]).ids)


def end_of_tokens(text: str, words: list[re.Match[str]], most: int) -> int:
    """Return the position in a text where its first `most` tokens end.

    No token spans white space, so a search by halves over the words finds the one that the limit is in.
    """
    whole = bisect_right(words, most, key=lambda word: token_count(text[: word.end()]))
    if whole == len(words):
        return len(text)
    start = words[whole - 1].end() if whole else 0
    word = words[whole]
    left = most - token_count(text[:start])
    cleaned, _ = clean(word[0])
    encoding = byte_pair_encoder().encode(cleaned)
    if left == 0 or len(cleaned) != len(word[0]) or left >= len(encoding.offsets):
        return start
    return int(word.start() + encoding.offsets[left][0])
