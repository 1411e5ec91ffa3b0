"""The bounded memory of what was used last."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import TIMEOUT
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.pipeline.cache import Memory


@given(st.lists(st.integers(0, 9), max_size=100), st.integers(1, 12))
def test_it_remembers_what_was_used_last_and_no_more(keys, size):
    memory, made, recent = Memory(size), [], []
    for key in keys:
        expected = key not in recent
        recent = [*(other for other in recent if other != key), key][-size:]
        before = len(made)
        memory.recall(key, lambda key=key: made.append(key))
        assert (len(made) > before) == expected


def test_what_is_being_made_is_not_made_twice_and_nobody_is_held_up():
    memory, go_on, made = Memory(4), threading.Event(), []

    def make():
        made.append(1)
        assert go_on.wait(TIMEOUT)
        return "made"

    with ThreadPoolExecutor() as pool:
        first = pool.submit(memory.recall, "key", make)
        while not made:
            pass
        second = memory.recall("key", make)  # returns although the first is still at it
        assert not second.done()
        go_on.set()
        assert first.result(TIMEOUT).result() == second.result(TIMEOUT) == "made"
    assert made == [1]


def test_a_failure_is_told_to_who_waits_for_it_and_not_remembered():
    memory = Memory(4)

    def fail():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        memory.recall("key", fail).result()
    assert memory.recall("key", lambda: "mended").result() == "mended"
