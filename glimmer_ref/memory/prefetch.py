"""Reading ahead: a thread makes the next result while the caller works with the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def begin(make: Callable[[], T]) -> Future[T]:
    """make(), by a thread of its own that ends with it."""
    pool = ThreadPoolExecutor(1, "glimmer_ref.ahead")
    result = pool.submit(make)
    pool.shutdown(wait=False)
    return result


def ahead(makes: Sequence[Callable[[], T]]) -> Iterator[T]:
    """make() of each in order, always one of them under way; the first begins now.

    An error comes out where the result would have. Whoever stops asking leaves one call unfinished,
    which ends by itself: there is no thread to be stopped, and no queue that could be full.
    """
    coming = [begin(make) for make in makes[:1]]

    def results() -> Iterator[T]:
        for i in range(len(makes)):
            result = coming.pop().result()
            coming.extend(begin(make) for make in makes[i + 1 : i + 2])
            yield result

    return results()
