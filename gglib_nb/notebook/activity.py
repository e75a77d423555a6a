"""Shows a server that the kernel is at work while a download is, so that it is not ended as idle.

Servers end a kernel that has been idle for long (`cull_idle_timeout`), and JupyterHub whole servers; a download in the
background is no activity to them. jupyter_server takes a message of the kernel for activity unless its kind is one that
frameworks send by themselves (`MappingKernelManager.untracked_message_types`: output, status and the like). So a message of
a kind of its own is sent now and then; every front end passes over kinds that it does not know, and shows nothing.
"""

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from gglib_nb.domain.download import DownloadStatus, QueueSnapshot
from gglib_nb.errors import GglibError
from gglib_nb.manager import manager as managers
from gglib_nb.manager.calls import public_error
from gglib_nb.manager.progress import use_views
from gglib_nb.notebook import host
from gglib_nb.settings import SET_HERE

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager

MESSAGE_TYPE: Final = "gglib_activity"
_LOOK_AGAIN_S: Final = 60.0
"""While it is switched off: how soon it is noticed that somebody switched it on."""

_log: Final = logging.getLogger("gglib_nb")
_lock: Final = threading.Lock()
_shown: "DownloadManager | None" = None


def get_manager() -> "DownloadManager":
    """The manager that the magics, the panel and `gglib_nb.download` share, made on first use.

    Its settings are what was set here or saved, and what profile and environment say. It ends with the interpreter: at
    most 2 s are waited for the engine, which keeps what it fetched.

    Raises:
        InvalidConfigError: One of these has a value that cannot work.
    """
    global _shown  # noqa: PLW0603 - one per kernel is the point
    try:
        manager = managers.get_manager()
    except GglibError as error:
        raise public_error(error) from None
    with _lock:
        if manager is not _shown and (kernel := host.kernel()) is not None:
            _shown = manager
            _show_downloads_in_cells()
            threading.Thread(target=_show, args=(manager, kernel), name="gglib-activity", daemon=True).start()
    return manager


def _show_downloads_in_cells() -> None:
    from gglib_nb.notebook.progress import download_in_cell

    use_views(download_in_cell)


def is_at_work(snapshot: QueueSnapshot) -> bool:
    """Whether ending the kernel now would stop a download that a person counts on."""
    waits = snapshot.waits_until is not None and any(item.status is DownloadStatus.QUEUED for item in snapshot.items)
    return snapshot.active_count > 0 or waits


def _show(manager: "DownloadManager", kernel: Any) -> None:  # noqa: ANN401 - ipykernel's
    pause = threading.Event()
    while not pause.wait(_interval_s(manager) or _LOOK_AGAIN_S):
        if manager.is_closed:
            return
        if _interval_s(manager) and is_at_work(manager.snapshot):
            try:
                kernel.session.send(kernel.iopub_socket, MESSAGE_TYPE, content={}, ident=MESSAGE_TYPE.encode())
            except Exception:  # noqa: BLE001 - a kernel without its socket ends; nothing else is lost with it
                _log.debug("The kernel's activity could not be shown", exc_info=True)
                return


def _interval_s(manager: "DownloadManager") -> int:
    interval_s: int = SET_HERE.get("activity_interval_s", manager.settings.activity_interval_s)
    return interval_s
