"""Token ids, compared with the original's."""

import html
import random

import ftfy
import pytest
from helpers import golden_rows
from hypothesis import example, given
from hypothesis import strategies as st

from longclip_cli.models import tokenizer
from longclip_cli.models.tokenizer import END_TOKEN, START_TOKEN, clean, collapse_start, collapse_white_space, tokenize

CONTEXT_LENGTH = 248


@pytest.mark.parametrize("row", golden_rows("tokens.jsonl"), ids=lambda row: ascii(row["text"])[:40])
def test_a_text_has_the_token_ids_of_the_original(row):
    assert tokenize(row["text"], CONTEXT_LENGTH).ids == row["ids"]


def test_a_long_text_is_cut_and_keeps_its_end_token():
    fits, long = tokenize("cat " * 246, CONTEXT_LENGTH), tokenize("cat " * 247, CONTEXT_LENGTH)
    assert len(fits.ids) == len(long.ids) == CONTEXT_LENGTH
    assert long.ids[-1] == END_TOKEN
    assert (fits.is_cut, long.is_cut) == (False, True)


def test_a_literal_end_token_is_ordinary_characters():
    ids = tokenize("a cat <|endoftext|> and <|startoftext|> a dog", CONTEXT_LENGTH).ids
    assert ids.count(END_TOKEN) == ids.count(START_TOKEN) == 1
    assert len(ids) > 8


@given(st.text(st.characters(), max_size=60))
@example("\ud800 a lone surrogate")
@example("\x00\x1b[31m\u200b")
def test_any_text_has_ids_between_one_start_and_one_end_token(text):
    start, *ids, end = tokenize(text, CONTEXT_LENGTH).ids
    assert (start, end) == (START_TOKEN, END_TOKEN)
    assert all(0 <= i < START_TOKEN for i in ids)


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_repairs_that_are_skipped_would_not_change_plain_text(text):
    repaired = html.unescape(html.unescape(ftfy.fix_text(collapse_white_space(text))))
    assert clean(text) == (collapse_white_space(repaired).lower(), False)


def seeded_texts(count, lengths):
    """Yield texts of words, numbers, accents, emoji, entities and unusual white space."""
    rng = random.Random(1)
    words = "a", "cat", "Straße", "naïve", "é", "日本語", "🙂"
    pieces = [*words, "&amp;", "&lt;b&gt;", "12345", "'s", "—", "…", "\xa0", "\u3000"]
    for _ in range(count):
        yield rng.choice(["", " "]).join(rng.choices(pieces, k=rng.choice(lengths)))


def test_no_text_below_the_limits_changes(monkeypatch):
    """The limits drop only what the network would not read: half the limits give the same tokens."""
    texts = list(seeded_texts(100, [1, 10, 100, 1000, 20_000]))
    before = [tokenize(text, 248) for text in texts]
    monkeypatch.setattr(tokenizer, "MOST_RAW_CHARACTERS", 60_000)
    monkeypatch.setattr(tokenizer, "MOST_CLEAN_CHARACTERS", 30_000)
    assert [tokenize(text, 248) for text in texts] == before
    assert any(len(text) > 60_000 for text in texts)


@given(st.text(st.sampled_from("ab\t \u3000\u0085é"), max_size=60))
def test_the_start_of_a_text_is_its_collapsed_start(text):
    whole = collapse_white_space(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "MOST_RAW_CHARACTERS", 10)
        assert collapse_start(text) == (whole[:10].rstrip(), len(whole) > 10)


def test_a_long_text_is_cut_at_white_space():
    assert clean("a" * 65_000 + " " + "b" * 1000) == ("a" * 65_000, True)
    assert clean("a" * 70_000) == ("a" * 65_536, True)
    assert clean("a" * 65_536) == ("a" * 65_536, False)
    assert clean("a" * 65_536 + " b") == ("a" * 65_536, True)


def test_u_0345_belongs_to_no_token():
    assert tokenize("a\u0345b1", 248).ids == [49406, 320, 321, 272, 49407]
