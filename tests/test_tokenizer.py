"""Token ids, against the original's."""

import html

import ftfy
import pytest
from conftest import golden_rows
from hypothesis import example, given
from hypothesis import strategies as st

from longclip_cli.tokenizer import END_TOKEN, START_TOKEN, clean, collapse_white_space, tokenize

CONTEXT_LENGTH = 248


@pytest.mark.parametrize("row", golden_rows("tokens.jsonl"), ids=lambda row: ascii(row["text"])[:40])
def test_a_text_has_the_token_ids_of_the_original(row):
    assert tokenize(row["text"], CONTEXT_LENGTH).ids == row["ids"]


def test_a_long_text_is_cut_at_the_context_length_with_its_end_token_kept():
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
def test_the_repairs_that_plain_text_skips_would_not_change_it(text):
    repaired = html.unescape(html.unescape(ftfy.fix_text(collapse_white_space(text))))
    assert clean(text) == collapse_white_space(repaired).lower()
