"""The hub is asked for what comes next: once at a time for each target, again after a wait."""

import threading
import time

import pytest

from gglib_nb.engine.http import LineError
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.retry import Connectivity
from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.part_resolver import PartResolver
from gglib_nb.errors import GatedRepoError, NetworkError
from tests.support.targets import a_target

PIECES = (b"first piece", b"second piece")


class Resolving:
    """A resolver of one target whose hub answers what the test says."""

    def __init__(self, folder, *answers) -> None:
        self.target = a_target(folder, PIECES)
        self.mailbox = Mailbox()
        self.asked = []
        self.resolved = []
        self.may_answer = threading.Event()
        self._answers = list(answers)
        self.resolver = PartResolver(self._ask, self.mailbox, Connectivity(lambda: True), self.resolved.append)

    def turn(self, now_s: float | None = None) -> None:
        self.resolver.resolve_next([self.target], time.monotonic() if now_s is None else now_s)

    def take(self) -> None:
        self.may_answer.set()
        self.mailbox.take(5, lambda: True)

    def _ask(self, part) -> Remote:
        self.asked.append(part.planned.path_in_repo)
        assert self.may_answer.wait(5)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_the_first_waiting_part_is_asked_for_once_while_the_hub_thinks(tmp_path) -> None:
    resolving = Resolving(tmp_path, Remote("http://cdn/1", 11, None))

    resolving.turn()
    resolving.turn()
    resolving.take()

    assert resolving.asked == ["part0.gguf"]
    assert resolving.resolved == [resolving.target]
    assert resolving.target.parts[0].remote == Remote("http://cdn/1", 11, None)


def test_a_server_that_takes_no_ranges_is_asked_for_the_whole(tmp_path) -> None:
    resolving = Resolving(tmp_path, Remote("http://cdn/1", 11, None, takes_ranges=False))

    resolving.turn()
    resolving.take()

    assert resolving.target.parts[0].is_sequential


def test_after_a_failure_the_hub_is_left_alone_until_the_wait_is_over(tmp_path) -> None:
    resolving = Resolving(tmp_path, LineError("reset"), Remote("http://cdn/1", 11, None))
    resolving.turn()
    resolving.take()

    resolving.target.parts[1].troubles.retry_at_s = float("inf")
    resolving.turn()
    resolving.turn(time.monotonic() + 61)
    resolving.take()

    assert resolving.asked == ["part0.gguf", "part0.gguf"]
    assert resolving.resolved == [resolving.target]


def test_failures_for_too_long_end_the_attempt(tmp_path) -> None:
    resolving = Resolving(tmp_path, LineError("reset"), LineError("reset"))
    resolving.target.parts[1].troubles.retry_at_s = float("inf")
    resolving.turn()
    resolving.take()
    resolving.target.parts[0].troubles.retry_at_s = resolving.target.parts[0].troubles._patience_s = 0

    resolving.turn()
    with pytest.raises(NetworkError, match="again and again"):
        resolving.take()


def test_a_no_of_the_hub_ends_the_attempt_at_once(tmp_path) -> None:
    resolving = Resolving(tmp_path, GatedRepoError("gated", accept_url="http://hub/x"))

    resolving.turn()

    with pytest.raises(GatedRepoError):
        resolving.take()
