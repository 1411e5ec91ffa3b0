"""The bytes that rows may hold ahead of the model."""

import threading
from concurrent.futures import ThreadPoolExecutor

from helpers import TIMEOUT
from hypothesis import given
from hypothesis import strategies as st

from longclip_cli.pipeline.budget import MemoryBudget


def test_rows_hold_half_of_the_budget_and_one_row_always():
    budget = MemoryBudget(100)
    assert [budget.hold(20) for _ in range(3)] == [True, True, False]
    budget.release(40)
    assert budget.hold(1000)
    assert not budget.hold(1)
    budget.release(1000)
    assert budget.hold(50)


def test_a_row_is_held_once_others_are_released():
    budget = MemoryBudget(100)
    assert budget.hold(50)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(budget.hold, 50, TIMEOUT)
        budget.release(50)
        assert waiting.result()


@given(st.lists(st.integers(1, 150), max_size=30), st.integers(0, 50))
def test_work_in_progress_stays_within_the_budget(sizes, rows):
    budget, lock = MemoryBudget(100), threading.Lock()
    running: list[int] = []

    def work(size):
        with budget.reserve(size):
            with lock:
                running.append(size)
                assert len(running) == 1 or sum(running) + rows <= budget.limit
            with lock:
                running.remove(size)

    budget.hold(rows)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, sizes))


def test_work_that_is_alone_shares_the_time_with_no_other():
    budget, started = MemoryBudget(100), threading.Event()

    def work():
        with budget.reserve(1):
            started.set()

    with budget.alone():
        thread = threading.Thread(target=work)
        thread.start()
        assert not started.wait(0.05)
    assert started.wait(TIMEOUT)
    thread.join()
