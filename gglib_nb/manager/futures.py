"""Futures made of futures, without waiting: for operations of several steps, and for callers that may not block."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any, TypeVar

from gglib_nb.manager.thread_pool import fail, succeed

_Result = TypeVar("_Result")
_Other = TypeVar("_Other")


def then(source: "Future[_Result]", transform: Callable[[_Result], _Other]) -> "Future[_Other]":
    """A future of the transformed result; cancelling it cancels `source`."""
    target: Future[_Other] = Future()
    _follow(source, lambda result: succeed(target, transform(result)), target)
    target.add_done_callback(lambda done: source.cancel() if done.cancelled() else None)
    return target


def chain(first: "Future[_Result]", go_on: Callable[[_Result], "Future[_Other]"]) -> "Future[_Other]":
    """A future of what the second step comes to; cancelling it cancels the step that is under way."""
    target: Future[_Other] = Future()
    steps: list[Future[Any]] = [first]

    def go_on_with(result: _Result) -> None:
        second = go_on(result)
        steps.append(second)
        _follow(second, lambda outcome: succeed(target, outcome), target)

    def take_back(done: "Future[_Other]") -> None:
        if done.cancelled():
            steps[-1].cancel()

    _follow(first, go_on_with, target)
    target.add_done_callback(take_back)
    return target


def gathered(sources: "Sequence[Future[_Result]]") -> "Future[list[_Result]]":
    """All results in their order, once all are there; with the first error, where there is one."""
    target: Future[list[_Result]] = Future()
    waiting, counting = set(sources), Lock()

    def settle(done: "Future[_Result]") -> None:
        with counting:
            waiting.discard(done)
            is_last = not waiting
        if is_last:
            errors = [error for source in sources if (error := source.exception())]
            if errors:
                fail(target, errors[0])
            else:
                succeed(target, [source.result() for source in sources])

    for source in sources:
        source.add_done_callback(settle)
    if not sources:
        target.set_result([])
    return target


def both(first: "Future[_Result]", second: "Future[_Other]") -> "Future[tuple[_Result, _Other]]":
    """Both results."""
    return chain(first, lambda one: then(second, lambda other: (one, other)))


def _follow(source: "Future[_Result]", go_on: Callable[[_Result], object], target: "Future[Any]") -> None:
    """Goes on with the result of `source`; its error, or its end without one, becomes that of `target`."""

    def arrived(done: "Future[_Result]") -> None:
        if done.cancelled():
            target.cancel()
        elif (error := done.exception()) is not None:
            fail(target, error)
        elif not target.done():
            try:
                go_on(done.result())
            except Exception as mistake:  # noqa: BLE001 - it belongs to whoever waits, and nobody waits here
                fail(target, mistake)

    source.add_done_callback(arrived)
