"""The one manager of this kernel, made on first use."""

import atexit
import threading
from typing import Final

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.model import Model
from gglib_nb.manager.manager import DownloadManager
from gglib_nb.manager.stores import Stores
from gglib_nb.settings import DownloadManagerConfig

_lock: Final = threading.Lock()
_current: DownloadManager | None = None


def get_manager() -> DownloadManager:
    """The manager that the magics, the panel and `gglib_nb.download` share, made on first use.

    Its settings are what was set here or saved, and what profile and environment say. It takes up what kernels left that
    are gone, for the same models folder and hub, and goes on with it. It ends with the interpreter: at most 2 s are waited
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


def catalog() -> Catalog:
    """The models database of this kernel, without making a manager: that would go on with an earlier kernel's queue.

    Raises:
        InvalidConfigError: An environment variable has a value that cannot work.
    """
    if (manager := existing_manager()) is not None and not manager.is_closed:
        return manager.catalog
    return Catalog(DownloadManagerConfig.of_kernel().database_path)


def stored_models() -> tuple[Model, ...]:
    """The models in this kernel's read-only stores, without making a manager.

    Raises:
        InvalidConfigError: An environment variable has a value that cannot work.
    """
    return Stores(DownloadManagerConfig.of_kernel().model_stores, catalog().models).models()


def existing_manager() -> DownloadManager | None:
    """The manager of this kernel if there is one; for those who must not make it."""
    return _current
