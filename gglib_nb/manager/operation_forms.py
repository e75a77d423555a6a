"""The other two forms of an operation: a coroutine, and a call that waits. Each operation is stated once, in `operations`.

`submit_name(...)` returns a future at once; `as_coroutine` makes `await manager.name(...)` of it, `as_blocking` makes
`manager.sync.name(...)`. Both are real functions with the parameters and the docstring of the one form, so that
completion, `help` and a type checker see what a person would have written twice more. Here, where an operation's answer
leaves for a person's code, its error sheds what only we can read (`told`).
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast

from gglib_nb.errors import GglibError, copy_of

_Owner = TypeVar("_Owner")
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Result_co = TypeVar("_Result_co", covariant=True)

_log: Final = logging.getLogger("gglib_nb")


class CoroutineMethod(Protocol[_Parameters, _Result_co]):
    """What a type checker sees of a coroutine method."""

    def __get__(self, instance: object, owner: type) -> Callable[_Parameters, Coroutine[Any, Any, _Result_co]]:
        """The method of an instance."""


class BlockingMethod(Protocol[_Parameters, _Result_co]):
    """What a type checker sees of a method that waits."""

    def __get__(self, instance: object, owner: type) -> Callable[_Parameters, _Result_co]:
        """The method of an instance."""


class HasOperations(Protocol):
    """Whoever offers the operations of another object."""

    @property
    def operations(self) -> Any:  # noqa: ANN401 - each form checks its own
        """Whose operations they are."""


def as_coroutine(
    submit: Callable[Concatenate[_Owner, _Parameters], "Future[_Result]"],
) -> CoroutineMethod[_Parameters, _Result]:
    """The operation as a coroutine. Cancelling it takes back what the future's cancelling takes back."""

    @wraps(submit)
    async def operation(
        self: Any,  # noqa: ANN401 - the class body says of whom
        *args: _Parameters.args,
        **kwargs: _Parameters.kwargs,
    ) -> _Result:
        try:
            return await asyncio.wrap_future(submit(self, *args, **kwargs))
        except GglibError as error:
            raise told(error) from None

    return cast("CoroutineMethod[_Parameters, _Result]", _described(operation, submit))


def as_blocking(
    submit: Callable[Concatenate[_Owner, _Parameters], "Future[_Result]"],
) -> BlockingMethod[_Parameters, _Result]:
    """The operation as a call that waits on its thread, for an object with `operations`."""

    @wraps(submit)
    def operation(self: HasOperations, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return result_of(submit(self.operations, *args, **kwargs))
        except GglibError as error:
            raise told(error) from None

    return cast("BlockingMethod[_Parameters, _Result]", _described(operation, submit))


def told(error: GglibError) -> GglibError:
    """The error as a person's code gets it, to be raised `from None`: its text says what happened and what to do next.

    The steps on our threads and the errors of other libraries below it would print a hundred lines more. They go to the log
    at DEBUG, and stay as `__context__`.
    """
    _log.debug("An operation has failed", exc_info=error)
    return copy_of(error)


def result_of(future: "Future[_Result]") -> _Result:
    """Waits for a future; an interrupt cancels it on the way out."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _described(operation: Any, submit: Callable[..., Any]) -> Any:  # noqa: ANN401 - a function, with a signature
    """Gives a form the name without `submit_`, and the result's type where the future's stood."""
    signature = inspect.signature(submit)
    result = str(signature.return_annotation).removeprefix("Future[").removesuffix("]")
    operation.__name__ = operation.__name__.removeprefix("submit_")
    operation.__qualname__ = operation.__name__
    operation.__annotations__ = {**operation.__annotations__, "return": result}
    operation.__signature__ = signature.replace(return_annotation=result)
    return operation
