"""Futures made of futures, without waiting: for callers that may not block, such as a button's handler."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any, TypeVar

_Given = TypeVar("_Given")
_Other = TypeVar("_Other")


def nothing(_result: object) -> None:
    """What is answered where there is nothing to say."""


def mapped(source: "Future[_Given]", convert: Callable[[_Given], object]) -> "Future[Any]":
    """What `convert` makes of the result; the same error."""
    answer: Future[Any] = Future()

    def settle(done: "Future[_Given]") -> None:
        try:
            answer.set_result(convert(done.result()))
        except Exception as error:  # noqa: BLE001 - handed on to who waits for the answer
            answer.set_exception(error)

    source.add_done_callback(settle)
    return answer


def gathered(sources: "Sequence[Future[_Given]]") -> "Future[list[_Given]]":
    """All results in their order, once all are there; with the first error, where there is one."""
    answer: Future[list[_Given]] = Future()
    waiting, counting = set(sources), Lock()

    def settle(done: "Future[_Given]") -> None:
        with counting:
            waiting.discard(done)
            is_last = not waiting
        if is_last:
            errors = [error for source in sources if (error := source.exception())]
            answer.set_exception(errors[0]) if errors else answer.set_result([source.result() for source in sources])

    for source in sources:
        source.add_done_callback(settle)
    if not sources:
        answer.set_result([])
    return answer


def both(first: "Future[_Given]", second: "Future[_Other]") -> "Future[tuple[_Given, _Other]]":
    """Both results."""
    sources: list[Future[Any]] = [first, second]
    return mapped(gathered(sources), tuple)
