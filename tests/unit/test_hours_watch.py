"""The clock is told of at every turn, and watched only while there are hours."""

import queue
import threading
from datetime import time

import pytest

from gglib_nb.domain.hours import DailyHours
from gglib_nb.manager.hours_watch import HoursWatch

NIGHT = DailyHours.parse("22-7")


class Clock:
    """A clock on the wall that a test puts forward."""

    def __init__(self, text):
        self.now = time.fromisoformat(text)

    def __call__(self):
        return self.now


@pytest.fixture
def told():
    return queue.SimpleQueue()


def watching():
    return {thread for thread in threading.enumerate() if thread.name == "gglib-hours"}


def test_what_the_clock_says_is_told_at_once_and_at_the_turn(told):
    clock = Clock("21:59:59.9")
    watch = HoursWatch(lambda *news: told.put(news), clock)

    watch.watch(NIGHT)
    first = told.get(timeout=10)
    clock.now = time.fromisoformat("22:00")
    second = told.get(timeout=10)
    watch.watch(None)

    assert (first, second) == ((NIGHT, False), (NIGHT, True))


def test_other_hours_are_told_of_at_once(told):
    watch = HoursWatch(lambda *news: told.put(news), Clock("12:00"))
    watch.watch(NIGHT)
    told.get(timeout=10)

    watch.watch(DailyHours.parse("11-13"))

    assert told.get(timeout=10) == (DailyHours.parse("11-13"), True)
    watch.watch(None)


def test_without_hours_there_is_no_thread(told):
    earlier = watching()  # of other tests, about to end
    watch = HoursWatch(lambda *news: told.put(news), Clock("12:00"))
    watch.watch(None)
    without_hours = watching() - earlier
    watch.watch(NIGHT)
    told.get(timeout=10)
    [thread] = watching() - earlier

    watch.watch(None)
    thread.join(10)

    assert not without_hours
    assert not thread.is_alive()


def test_the_kernel_can_end_while_the_clock_is_watched(told):
    watch = HoursWatch(lambda *news: told.put(news), Clock("12:00"))
    watch.watch(NIGHT)
    told.get(timeout=10)

    assert [thread.daemon for thread in threading.enumerate() if thread.name == "gglib-hours"] == [True]
    watch.watch(None)
