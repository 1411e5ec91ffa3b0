"""Where the tokens end that a network reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.models.tokenizer import tokenize
from longclip_cli.reporting.token_marks import CLIP_LENGTH, CONTEXT_LENGTH, MarkedText, mark_tokens

WORDS = ["a", "photograph", "of", "two", "<b>", "&amp;", "日本語", "naïve", "ﬁne", "\n", "123", "!?"]


def test_a_short_text_is_read_whole():
    assert mark_tokens("two cats") == MarkedText("two cats")


def test_75_words_are_read_by_clip_and_246_by_longclip():
    words = ["cat"] * 300
    marked = mark_tokens(" ".join(words))
    assert [len(part.split()) for part in (marked.read, marked.long, marked.cut)] == [75, 171, 54]


@given(st.lists(st.sampled_from(WORDS), max_size=400))
def test_the_parts_make_up_the_text_and_end_where_tokens_do(words):
    text = " ".join(words)
    marked = mark_tokens(text)
    assert marked.read + marked.long + marked.cut == text
    for length, kept in ((CLIP_LENGTH, marked.read), (CONTEXT_LENGTH, marked.read + marked.long)):
        whole, part = tokenize(text, 10_000).ids, tokenize(kept, 10_000).ids
        assert len(part) <= length
        # No more than the word that the limit is in is left out.
        assert len(part) >= min(len(whole), length) - 8
        assert part[:-1] == whole[: len(part) - 1]


@pytest.mark.parametrize("text", ["猫" * 3000, "x" * 3000, "a!" * 1500])
def test_a_text_without_white_space_is_cut_within_its_word(text):
    marked = mark_tokens(text)
    assert marked.read + marked.long + marked.cut == text
    assert len(tokenize(marked.read, 10_000).ids) in range(CLIP_LENGTH - 3, CLIP_LENGTH + 3)
    assert marked.cut
