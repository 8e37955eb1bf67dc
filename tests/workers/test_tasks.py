"""Tasks on an executor: all results, in order where that is asked for, and what happens to a task that fails."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from glimmer_ref.errors import InputError
from glimmer_ref.workers.tasks import TRIES, Failed, Workers, as_finished, in_order


@pytest.fixture
def workers() -> Workers:
    return Workers(ThreadPoolExecutor(3), 3, "")


def late(number: int) -> int:
    """The first is the slowest."""
    time.sleep(0.2 if number == 0 else 0)
    return 10 * number


def test_results_come_as_they_are_finished_or_in_order(workers: Workers) -> None:
    found = list(as_finished(workers, late, range(20), []))
    assert sorted(found) == [(i, 10 * i) for i in range(20)] and found[0] != (0, 0)
    assert list(in_order(workers, late, range(20), "numbers")) == list(range(0, 200, 10))
    assert list(in_order(workers, late, [], "numbers")) == []


def test_a_task_is_tried_three_times_and_then_left_out(workers: Workers) -> None:
    tries, failed = Counter[int](), list[Failed[int]]()

    def fails(number: int) -> int:
        tries[number] += 1
        if number == 2 or (number == 4 and tries[4] < TRIES):
            raise ValueError(f"not {number}")
        return number

    assert {i for i, _ in as_finished(workers, fails, range(8), failed)} == {0, 1, 3, 4, 5, 6, 7}
    assert failed == [Failed(2, 3, "not 2")] and (tries[2], tries[4], tries[5]) == (3, 3, 1)
    found = list[int]()
    with pytest.raises(InputError, match="numbers: expected an answer of some worker after 3 tries; got not 2"):
        found.extend(in_order(workers, fails, range(8), "numbers"))
    found = []
    with pytest.raises(InputError):
        for x in in_order(workers, fails, range(8), "numbers"):
            found.append(x)
    assert found == [0, 1], "what comes before the failed one, and nothing after it"
