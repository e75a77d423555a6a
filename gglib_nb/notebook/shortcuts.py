"""The functions of `gglib_nb`: operations of this kernel's shared manager, which is created on first use.

While downloads run, the kernel signals activity to its server. Servers stop idle kernels (`cull_idle_timeout`),
JupyterHub stops idle servers, and neither counts a background download as activity. jupyter_server counts messages of
any type that is not in `MappingKernelManager.untracked_message_types`. So a message of a custom type is sent
periodically; front ends ignore it.
"""

import logging
import threading
from collections.abc import Callable
from functools import update_wrapper
from inspect import signature
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.errors import GglibError
from gglib_nb.manager import manager as managers
from gglib_nb.manager.calls import public_error
from gglib_nb.manager.manager import DownloadManager, SyncOperations
from gglib_nb.manager.progress import use_views
from gglib_nb.notebook import host

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")

_MESSAGE_TYPE: Final = "gglib_activity"
_log: Final = logging.getLogger("gglib_nb")
_lock: Final = threading.Lock()
_shown: DownloadManager | None = None


def get_manager() -> DownloadManager:
    """The manager that the magics, the panel and `gglib_nb.download` share, created on first use.

    Its settings are those set here or saved, then those of profile and environment. It ends with the interpreter, which
    waits at most 2 s for the engine; downloaded data is kept.

    Raises:
        InvalidConfigError: One of these has a value that cannot work.
    """
    global _shown  # noqa: PLW0603 - there is one per kernel
    try:
        manager = managers.get_manager()
    except GglibError as error:
        raise public_error(error) from None
    with _lock:
        if manager is not _shown and (kernel := host.kernel()) is not None:
            from gglib_nb.notebook.progress import download_in_cell

            _shown = manager
            use_views(download_in_cell)
            thread = threading.Thread(target=_show_activity, args=(manager, kernel), name="gglib-activity", daemon=True)
            thread.start()
    return manager


def _show_activity(manager: DownloadManager, kernel: Any) -> None:  # noqa: ANN401 - ipykernel's
    pause, interval_s = threading.Event(), manager.config.activity_interval_s
    while interval_s and not pause.wait(interval_s) and not manager.is_closed:
        snapshot = manager.snapshot
        waits = snapshot.waits_until is not None and any(one.status is DownloadStatus.QUEUED for one in snapshot.items)
        if snapshot.active_count or waits:  # ending the kernel now would stop a download that the user expects
            try:
                kernel.session.send(kernel.iopub_socket, _MESSAGE_TYPE, content={}, ident=_MESSAGE_TYPE.encode())
            except Exception:  # noqa: BLE001 - a kernel without its socket ends; nothing else is lost with it
                _log.debug("The kernel's activity could not be shown", exc_info=True)
                return


# Shortcuts -------------------------------------------------------------------------------------------------------


def _shortcut(
    operation: Callable[Concatenate[Any, _Parameters], _Result],
) -> Callable[[Callable[..., Any]], Callable[_Parameters, _Result]]:
    """Gives a function the documentation and the arguments of an operation, without the manager."""

    def describe(function: Any) -> Any:  # noqa: ANN401 - a function, with a signature
        stated = signature(operation)
        update_wrapper(function, operation)
        function.__signature__ = stated.replace(parameters=list(stated.parameters.values())[1:])
        return function

    return describe


@_shortcut(DownloadManager.download)
async def download(*args: Any, **kwargs: Any) -> Path:  # noqa: ANN401, D103 - as the operation
    try:
        return await get_manager().download(*args, **kwargs)
    except GglibError as error:
        raise error.with_traceback(None) from None  # the traceback ends at the caller's line


@_shortcut(SyncOperations.download)
def download_sync(*args: Any, **kwargs: Any) -> Path:  # noqa: ANN401, D103 - as the operation
    try:
        return get_manager().sync.download(*args, **kwargs)
    except GglibError as error:
        raise error.with_traceback(None) from None


def path(text: str) -> Path:
    """The file of a model on this disk that a program opens: its first shard. Contacts no hub and resumes no queue.

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
