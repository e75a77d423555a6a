"""What `gglib_nb` offers as functions: operations of this kernel's manager, which is made on first use."""

from collections.abc import Callable, Coroutine
from functools import update_wrapper
from inspect import signature
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from gglib_nb.errors import GglibError
from gglib_nb.manager import manager as managers
from gglib_nb.manager.manager import DownloadManager, SyncOperations
from gglib_nb.notebook.activity import get_manager

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _awaited(
    operation: Callable[_Parameters, Coroutine[Any, Any, _Result]],
) -> Callable[_Parameters, Coroutine[Any, Any, _Result]]:
    async def shortcut(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            result: _Result = await getattr(get_manager(), operation.__name__)(*args, **kwargs)
        except GglibError as error:
            raise error.with_traceback(None) from None  # the caller's line says enough
        return result

    _describe(shortcut, operation)
    return shortcut


def _waiting(operation: Callable[Concatenate[SyncOperations, _Parameters], _Result]) -> Callable[_Parameters, _Result]:
    def shortcut(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return operation(get_manager().sync, *args, **kwargs)
        except GglibError as error:
            raise error.with_traceback(None) from None

    _describe(shortcut, operation)
    return shortcut


def _describe(shortcut: Any, operation: Callable[..., Any]) -> None:  # noqa: ANN401 - a function, with a signature
    """Gives the shortcut the documentation and the arguments of the operation, but for the manager."""
    stated = signature(operation)
    update_wrapper(shortcut, operation)
    shortcut.__signature__ = stated.replace(parameters=list(stated.parameters.values())[1:])


download: Final = _awaited(DownloadManager.download)
download_sync: Final = _waiting(SyncOperations.download)


def path(text: str) -> Path:
    """The file of a model that is here, as a program opens it: its first shard. Asks no hub and starts no manager.

        llm = llama_cpp.Llama(str(gglib_nb.path("owner/repo:Q4_K_M")))

    Args:
        text: The model's id, or a part of it that only one model has.

    Raises:
        ModelNotFoundError: No model matches, or its file is gone; the text names near ones.
        AmbiguousQuantizationError: Several match; `choices` has their ids.
        CatalogError: The models database cannot be read.
    """
    try:
        return managers.model_path(text)
    except GglibError as error:
        raise error.with_traceback(None) from None
