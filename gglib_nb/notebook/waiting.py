"""Waiting for the manager on the main thread, so that the interrupt button ends the waiting and nothing else."""

from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from typing import Final, TypeVar

_Result = TypeVar("_Result")
# A lock cannot be interrupted on Windows; this is how late an interrupt is noticed there.
_LOOK_UP_EVERY_S: Final = 0.25


def settle(future: "Future[_Result]", meanwhile: Callable[[], None] = lambda: None) -> _Result:
    """Waits for a future on the main thread, so that an interrupt ends the waiting.

    Args:
        future: Cancelled when the waiting ends early: an unresolved request is void then.
        meanwhile: Called while waiting, some times a second.

    Raises:
        KeyboardInterrupt: Somebody interrupted the cell.
    """
    try:
        while not future.done():
            futures.wait([future], timeout=_LOOK_UP_EVERY_S)
            meanwhile()
    except BaseException:
        future.cancel()
        raise
    return future.result()
