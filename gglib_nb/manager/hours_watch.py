"""Watches the clock for the hours in which downloads may run, and tells when they begin and end.

A thread that exists only while there are such hours. It sleeps until the next turn, but never long: the clock may be put
forward or back, and a machine that was asleep has lost count. It knows no queue.
"""

import threading
from collections.abc import Callable
from datetime import datetime, time
from typing import Final

from gglib_nb.domain.hours import DailyHours

_LOOK_EVERY_S: Final = 30.0


def local_time() -> time:
    """What the clock on the wall shows."""
    return datetime.now().astimezone().time()


class HoursWatch:
    """One clock. Methods may be called from any thread.

    Args:
        tell: Called on its own thread with the hours and whether they hold now, at once and at every turn.
        now: The clock.
    """

    def __init__(self, tell: Callable[[DailyHours, bool], object], now: Callable[[], time] = local_time) -> None:
        self._tell: Final = tell
        self._now: Final = now
        self._changed: Final = threading.Condition()
        self._hours: DailyHours | None = None
        self._thread: threading.Thread | None = None

    def is_open(self, hours: DailyHours | None) -> bool:
        """Whether downloads may run by these hours now."""
        return hours is None or hours.contains(self._now())

    def watch(self, hours: DailyHours | None) -> None:
        """Watches these hours from now on; None ends the watching."""
        with self._changed:
            self._hours = hours
            self._changed.notify_all()
            if hours is not None and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="gglib-hours", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        told: tuple[DailyHours, bool] | None = None
        while (news := self._wait(told)) is not None:
            told = news
            self._tell(*news)

    def _wait(self, told: tuple[DailyHours, bool] | None) -> tuple[DailyHours, bool] | None:
        """What is to be told next; None at the end."""
        with self._changed:
            while (hours := self._hours) is not None:
                now = self._now()
                if (news := (hours, hours.contains(now))) != told:
                    return news
                self._changed.wait(min(hours.seconds_until_turn(now), _LOOK_EVERY_S))
            self._thread = None
            return None
