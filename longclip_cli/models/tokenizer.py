"""Text to token ids, exactly as CLIP's own tokenizer gives them.

The byte-pair encoding runs in Hugging Face `tokenizers`; what stands around it (repairs, case, the
start and end tokens, the cut at the context length) is here.
"""

from __future__ import annotations

import gzip
import html
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGES_USED = 49152 - 256 - 2  # CLIP's vocabulary less the bytes and two special tokens; the file holds more
START_TOKEN = 49406
END_TOKEN = 49407
# CLIP's pattern: contractions, runs of letters, single digits, runs of anything else.
# Its special tokens are left out: one that stands in a caption is ordinary characters.
# U+0345 belongs to none of these: the original ignores case, for which it is a form of the letter iota.
WORD_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
# No text needs more: 248 tokens are a few thousand characters at most, and what is not read need not be repaired.
MOST_RAW_CHARACTERS = 1_000_000
MOST_CLEAN_CHARACTERS = 65_536
WHITE_SPACE_WITHIN = 1_000  # characters before that limit, a text is cut at white space


@dataclass(frozen=True)
class TokenizedText:
    """Token ids from the start to the end token, and whether some were cut to fit."""

    ids: list[int]
    is_cut: bool


def tokenize(text: str, context_length: int) -> TokenizedText:
    """Return the token ids of a text, at most `context_length` of them, the end token kept."""
    kept, is_dropped = clean(text)
    words = byte_pair_encoder().encode(kept).ids
    most = context_length - 2
    return TokenizedText([START_TOKEN, *words[:most], END_TOKEN], is_cut=is_dropped or len(words) > most)


def clean(text: str) -> tuple[str, bool]:
    """Return a text as the byte-pair encoding takes it, and whether some of it was dropped for its length.

    It is repaired, HTML is unescaped, white space is collapsed and letters are lower case. What lies beyond
    `MOST_RAW_CHARACTERS` before that or `MOST_CLEAN_CHARACTERS` after it is dropped.
    """
    text, is_raw_dropped = collapse_start(text)
    # ftfy and HTML unescaping have nothing to do on printable ASCII without an ampersand.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy

        text = collapse_white_space(html.unescape(html.unescape(ftfy.fix_text(text))))
    text, is_clean_dropped = cut_at_white_space(text.lower())
    return text, is_raw_dropped or is_clean_dropped


def collapse_white_space(text: str) -> str:
    """Return the text with each run of white space as one blank, and none at its ends."""
    return " ".join(text.split())


def collapse_start(text: str) -> tuple[str, bool]:
    """Return the first `MOST_RAW_CHARACTERS` of a text whose white space is collapsed, and whether there were more."""
    if len(text) <= MOST_RAW_CHARACTERS:
        return collapse_white_space(text), False
    # With the blanks between them so many words fill the limit: what follows as one string is never looked at.
    words = text.split(maxsplit=MOST_RAW_CHARACTERS // 2)
    text = " ".join(words[: MOST_RAW_CHARACTERS // 2])
    return text[:MOST_RAW_CHARACTERS].rstrip(), len(words) > MOST_RAW_CHARACTERS // 2 or len(text) > MOST_RAW_CHARACTERS


def cut_at_white_space(text: str) -> tuple[str, bool]:
    """Return at most `MOST_CLEAN_CHARACTERS` of a text, cut at white space if some is near, and whether it was cut."""
    if len(text) <= MOST_CLEAN_CHARACTERS:
        return text, False
    end = text.rfind(" ", MOST_CLEAN_CHARACTERS - WHITE_SPACE_WITHIN, MOST_CLEAN_CHARACTERS + 1)
    return text[: end if end > 0 else MOST_CLEAN_CHARACTERS], True


@cache
def byte_pair_encoder() -> Tokenizer:
    """CLIP's byte-pair encoding, without special tokens; built once (0.2 s)."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

    characters = byte_characters()
    merges = read_merges()
    tokens = [*characters, *(f"{c}</w>" for c in characters), *(first + second for first, second in merges)]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    encoder = Tokenizer(BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>"))
    encoder.pre_tokenizer = Sequence(
        [
            Split(Regex(WORD_PATTERN), behavior="removed", invert=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return encoder


def read_merges() -> list[tuple[str, str]]:
    """The merges CLIP uses, in order of priority, from the table in the package."""
    table = files("longclip_cli") / "data" / MERGES_FILE
    with table.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        next(lines)  # names the table's version
        pairs = (line.split() for line in islice(lines, MERGES_USED))
        return [(left, right) for left, right in pairs]


def byte_characters() -> list[str]:
    """GPT-2's printable stand-in for each byte, in the order of CLIP's vocabulary.

    Bytes that print stand for themselves and come first; the others follow as the
    characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    stand_ins = range(0x100, 0x100 + 256 - len(printable))
    return [chr(code) for code in (*printable, *stand_ins)]
