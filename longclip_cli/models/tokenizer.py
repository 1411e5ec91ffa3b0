"""Text to token ids, exactly as CLIP's own tokenizer.

The byte-pair encoding runs in Hugging Face `tokenizers`. The steps around it are here: repairs, lower case,
the start and end tokens, and the cut at the context length.
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
MERGES_USED = 49152 - 256 - 2  # as many as CLIP reads; the file holds more
VOCAB_SIZE = 2 * 256 + MERGES_USED + 2  # 49408: each byte inside a word and at its end, the merges, two special tokens
START_TOKEN, END_TOKEN = VOCAB_SIZE - 2, VOCAB_SIZE - 1
# CLIP's pattern: contractions, runs of letters, single digits, runs of anything else.
# Without its special tokens: in a caption they are ordinary characters.
# Without U+0345: the original ignores case, and then this character is a form of the letter iota.
WORD_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
# No text needs more: 248 tokens are a few thousand characters at most. Text beyond the limits is not repaired.
MOST_RAW_CHARACTERS = 1_000_000
MOST_CLEAN_CHARACTERS = 65_536
WHITE_SPACE_WITHIN = 1_000  # characters before that limit: if there is white space, the text is cut there


@dataclass(frozen=True)
class TokenizedText:
    """The token ids of a text, from the start to the end token. `is_cut`: the whole text did not fit."""

    ids: list[int]
    is_cut: bool


def tokenize(text: str, context_length: int) -> TokenizedText:
    """Return the token ids of a text, at most `context_length` of them. The last one is always the end token."""
    kept, is_dropped = clean(text)
    words = byte_pair_encoder().encode(kept).ids
    most = context_length - 2
    return TokenizedText([START_TOKEN, *words[:most], END_TOKEN], is_cut=is_dropped or len(words) > most)


def clean(text: str) -> tuple[str, bool]:
    """Return a text ready for the byte-pair encoding, and whether some of it was dropped because of its length.

    The text is repaired (ftfy), HTML is unescaped twice, white space is collapsed, and letters become lower case.
    Characters beyond `MOST_RAW_CHARACTERS` before cleaning, or `MOST_CLEAN_CHARACTERS` after it, are dropped.
    """
    text, is_raw_dropped = collapse_start(text)
    # ftfy and HTML unescaping do not change printable ASCII without an ampersand.
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy

        text = collapse_white_space(html.unescape(html.unescape(ftfy.fix_text(text))))
    text, is_clean_dropped = cut_at_white_space(text.lower())
    return text, is_raw_dropped or is_clean_dropped


def collapse_white_space(text: str) -> str:
    """Return the text with each run of white space replaced by one space, and stripped."""
    return " ".join(text.split())


def collapse_start(text: str) -> tuple[str, bool]:
    """Return the first `MOST_RAW_CHARACTERS` of a text with white space collapsed, and whether there were more."""
    if len(text) <= MOST_RAW_CHARACTERS:
        return collapse_white_space(text), False
    # This many words, with the spaces between them, fill the limit. The rest stays one string and is not read.
    words = text.split(maxsplit=MOST_RAW_CHARACTERS // 2)
    text = " ".join(words[: MOST_RAW_CHARACTERS // 2])
    return text[:MOST_RAW_CHARACTERS].rstrip(), len(words) > MOST_RAW_CHARACTERS // 2 or len(text) > MOST_RAW_CHARACTERS


def cut_at_white_space(text: str) -> tuple[str, bool]:
    """Return at most `MOST_CLEAN_CHARACTERS` of a text, and whether it was cut.

    The cut is at the last white space within `WHITE_SPACE_WITHIN` characters before the limit, if there is any.
    """
    if len(text) <= MOST_CLEAN_CHARACTERS:
        return text, False
    end = text.rfind(" ", MOST_CLEAN_CHARACTERS - WHITE_SPACE_WITHIN, MOST_CLEAN_CHARACTERS + 1)
    return text[: end if end > 0 else MOST_CLEAN_CHARACTERS], True


@cache
def byte_pair_encoder() -> Tokenizer:
    """Return CLIP's byte-pair encoding, without special tokens. Built once (0.2 s)."""
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
    """Return the merges that CLIP uses, in order of priority, from the table in the package."""
    table = files("longclip_cli") / "data" / MERGES_FILE
    with table.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
        next(lines)  # the table's version
        pairs = (line.split() for line in islice(lines, MERGES_USED))
        return [(left, right) for left, right in pairs]


def byte_characters() -> list[str]:
    """Return GPT-2's printable character for each byte, in the order of CLIP's vocabulary.

    Printable bytes come first and are their own characters. The others follow as the characters from U+0100 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    stand_ins = range(0x100, 0x100 + 256 - len(printable))
    return [chr(code) for code in (*printable, *stand_ins)]
