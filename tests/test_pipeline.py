"""Threads that run ahead and behind: order, bounds, errors, and that none is left."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from isa_deploy.errors import InputError
from isa_deploy.runtime.pipeline import Ahead, Behind


class Counted:
    """An endless source that knows how much was asked of it, and a gate to wait at."""

    def __init__(self) -> None:
        self.made = 0
        self.made_some = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        while True:
            with self.made_some:
                self.made += 1
                self.made_some.notify_all()
            yield self.made - 1

    def wait_for(self, made: int) -> None:
        with self.made_some:
            assert self.made_some.wait_for(lambda: self.made >= made, timeout=30)


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("isa-ahead", "isa-behind")]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_items_come_in_their_order(depth: int) -> None:
    with Ahead(range(200), depth) as items:
        assert list(items) == list(range(200))
        assert next(items, None) is None
    assert own_threads() == []


def test_no_more_is_made_than_the_depth_before_something_is_taken() -> None:
    source = Counted()
    with Ahead(source, 3) as items:
        source.wait_for(3)
        # a fourth would be made within this: the thread has nothing else to do
        with source.made_some:
            assert not source.made_some.wait_for(lambda: source.made > 3, timeout=0.2)
        assert next(items) == 0
        source.wait_for(4)
        with source.made_some:
            assert not source.made_some.wait_for(lambda: source.made > 4, timeout=0.2)
    assert own_threads() == []


def failing(items: int) -> Iterator[int]:
    yield from range(items)
    raise InputError("the file ends here")


def test_an_error_comes_after_the_items_before_it() -> None:
    with Ahead(failing(4), 2) as items:
        assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(InputError, match="ends here"):
            next(items)
        assert next(items, None) is None
    assert own_threads() == []


def test_leaving_early_ends_the_thread_that_runs_ahead() -> None:
    source = Counted()
    with Ahead(source, 2) as items:
        assert [next(items) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert own_threads() == []
    assert source.made <= 6 + 2


def give(work: Callable[[int], None], depth: int, items: int, error: BaseException | None = None) -> None:
    with Behind(work, depth) as worker:
        for item in range(items):
            worker.put(item)
        if error is not None:
            raise error


def test_work_is_done_in_order_and_all_of_it_at_the_end() -> None:
    done: list[int] = []
    give(done.append, 2, 100)
    assert done == list(range(100))
    assert own_threads() == []


def test_a_slow_worker_is_waited_for() -> None:
    gate, begun = threading.Event(), threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        begun.set()
        assert gate.wait(30)
        done.append(item)

    given: list[int] = []
    with Behind(work, 2) as worker:

        def give_six() -> None:
            for item in range(6):
                worker.put(item)
                given.append(item)

        giver = threading.Thread(target=give_six)
        giver.start()
        assert begun.wait(30)
        giver.join(0.3)
        assert giver.is_alive()
        assert given == [0, 1, 2]  # one in hand, two waiting
        gate.set()
        giver.join(30)
    assert done == list(range(6))


def test_an_error_of_the_work_reaches_who_gives_it() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise InputError("the disk is full")
        done.append(item)

    with pytest.raises(InputError, match="disk is full"):
        give(work, 1, 1000)
    assert done == [0, 1, 2]
    assert own_threads() == []


def test_an_error_of_the_last_piece_of_work_is_not_lost() -> None:
    def work(item: int) -> None:
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="disk is full"):
        give(work, 4, 1)


def give_and_leave(work: Callable[[int], None], begun: threading.Event, error: BaseException) -> None:
    with Behind(work, 5) as worker:
        for item in range(3):
            worker.put(item)
        assert begun.wait(30)
        raise error


def leave(error: BaseException) -> list[int]:
    """What is done of three pieces of work where the block is left with an error while the first is in hand."""
    begun = threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        begun.set()
        done.append(item)
        time.sleep(0.2)

    with pytest.raises(type(error)):
        give_and_leave(work, begun, error)
    assert own_threads() == []
    return done


def test_ctrl_c_finishes_what_was_given_and_another_error_drops_it() -> None:
    assert leave(KeyboardInterrupt()) == [0, 1, 2]
    assert leave(ValueError()) == [0]


def test_the_error_that_came_first_is_the_one_that_is_told() -> None:
    def work(item: int) -> None:
        raise InputError("the disk is full")

    with pytest.raises(ValueError, match="first"):
        give(work, 5, 1, ValueError("first"))
    with pytest.raises(InputError, match="disk is full"):
        give(work, 5, 1, KeyboardInterrupt())
    assert own_threads() == []


def test_a_depth_without_room_is_refused() -> None:
    with pytest.raises(InputError, match="a depth of 0"):
        Ahead([1], 0)
    with pytest.raises(InputError, match="a depth of -1"):
        Behind(print, -1)


INTERRUPTED = """
import os, signal, threading, time
from isa_deploy.runtime.pipeline import Ahead
def slow():
    yield 1
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    time.sleep(1)
    yield 2
try:
    with Ahead(slow(), 2) as items:
        print(next(items))
        print(next(items))
except KeyboardInterrupt:
    print("interrupted", threading.active_count() <= 2)
"""


def test_waiting_for_an_item_hears_ctrl_c() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1", "interrupted True"]


TWICE = """
import os, signal, threading, time
from isa_deploy.runtime.pipeline import Behind
done = []
leaving = threading.Event()
def work(item):
    if item == 0:
        assert leaving.wait(30)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    time.sleep(0.6)
    done.append(item)
try:
    with Behind(work, 5) as worker:
        for item in range(5):
            worker.put(item)
        leaving.set()
        raise KeyboardInterrupt("first")
except KeyboardInterrupt as error:
    print("interrupted", str(error) != "first", done, threading.active_count())
"""


def test_a_second_ctrl_c_waits_for_the_work_in_hand_alone() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=True)
    assert done.stdout == "interrupted True [0] 1\n"
