"""Iterators that work side by side, each in a thread of its own."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")
Watch = Callable[[int], None]
Lane = Callable[[Watch], Iterator[T]]


class _Watched(NamedTuple):
    tokens: int


class _Ended(NamedTuple):
    error: BaseException | None


class _EnoughError(Exception):
    """Nobody wants more of a lane."""


def side_by_side(lanes: Sequence[Lane[T]], watch: Watch | None) -> Iterator[T]:
    """Yields what the lanes yield, as it comes.

    Args:
      lanes: watch -> iterator, each run in its own thread. A lane calls its watch often: that is where it is stopped
        once another has failed, nobody wants more, or the process ends.
      watch: called with what the lanes tell theirs, in the caller's thread.

    Raises:
      Whatever a lane raises.

    >>> sorted(side_by_side([lambda watch: iter("ab"), lambda watch: iter("cd")], None))
    ['a', 'b', 'c', 'd']
    """
    found: queue.SimpleQueue[T | _Watched | _Ended] = queue.SimpleQueue()
    enough = threading.Event()

    def watched(count: int) -> None:
        if enough.is_set() or not threading.main_thread().is_alive():
            raise _EnoughError
        found.put(_Watched(count))

    def work(lane: Lane[T]) -> None:
        try:
            for item in lane(watched):
                found.put(item)
        except BaseException as error:  # raised again where the caller waits
            found.put(_Ended(error))
        else:
            found.put(_Ended(None))

    # Not daemons: a thread of JAX's that is still at work when the interpreter is taken down aborts the process.
    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            item = found.get()
            if isinstance(item, _Watched):
                if watch is not None:
                    watch(item.tokens)
            elif isinstance(item, _Ended):
                if item.error is not None:
                    raise item.error
                running -= 1
            else:
                yield item
    finally:
        enough.set()
        for thread in threads:
            thread.join()
