"""The one manager of this kernel, made on first use; and `run`, for coroutines in a plain cell or a script."""

import atexit
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from gglib_nb.catalog.store import Catalog
from gglib_nb.manager.calls import Calls
from gglib_nb.manager.manager import DownloadManager
from gglib_nb.manager.model_operations import path_of
from gglib_nb.manager.operations import IdLike
from gglib_nb.manager.stores import Stores
from gglib_nb.settings import DownloadManagerConfig

_Result = TypeVar("_Result")

_lock: Final = threading.Lock()
_current: DownloadManager | None = None


def get_manager() -> DownloadManager:
    """The manager that the magics, the panel and `gglib_nb.download` share, made on first use.

    Its settings are what was set here or saved, and what profile and environment say. It resumes the queues of kernels
    that are gone, for the same models folder and hub. It ends with the interpreter: at most 2 s are waited
    for the engine, which keeps what it fetched, and the next kernel takes up the rest.

    Raises:
        InvalidConfigError: One of these has a value that cannot work.
    """
    global _current  # noqa: PLW0603 - one per kernel is the point
    with _lock:
        if _current is None or _current.is_closed:
            _current = DownloadManager(DownloadManagerConfig.of_kernel())
            _current.submit(_current.sync.adopt)
            atexit.register(_current.close)
        return _current


def model_path(reference: IdLike) -> Path:
    """The file of a registered model, without making a manager: that would resume an earlier kernel's queue.

    Raises:
        InvalidConfigError: A setting has a value that cannot work.
        ModelNotFoundError: No model matches, or its file is gone.
        AmbiguousQuantizationError: Several match.
        CatalogError: The models database cannot be read.
    """
    manager = existing_manager()
    config = DownloadManagerConfig.of_kernel() if manager is None else manager.config
    catalog = Catalog(config.database_path)
    stores = Stores(config.model_stores, catalog.models)
    # On a thread, since the state folder may be on a disk that hangs; not one of the manager's, which a forked child lacks.
    return Calls().run(path_of, catalog, reference, stores.models)


def existing_manager() -> DownloadManager | None:
    """The manager of this kernel if there is one; for those who must not make it."""
    return _current


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Runs a coroutine to its end and returns its result.

    In a script it makes a loop. Inside a running loop, as in a notebook's cell, it re-enters that loop, which
    `nest_asyncio2` makes possible: the loop is patched from then on. `await` in the cell needs no such thing and is
    better wherever it can be written; the magics and `manager.sync` never patch anything.

    An interrupt in a cell ends the waiting and cancels the coroutine.
    """
    import asyncio  # 30 ms, which an import does not pay

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # nest_asyncio 1.6 is archived and silently drops cells that are queued behind it under ipykernel 7.
    import nest_asyncio2

    nest_asyncio2.apply(loop)
    result: _Result = loop.run_until_complete(coroutine)
    return result
