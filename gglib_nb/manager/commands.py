"""Runs a command once a download is complete: a shell line, stored with the download, or a callable of this kernel.

A shell line is recorded in the models database before it starts, so it starts only once, whichever kernel completes the download.
The queue thread does not wait for it; its result is posted to the queue, which shows it.
"""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.snapshot import DownloadCompleted, QueuedDownload, QueueEvent, Then
from gglib_nb.domain.text import without_tokens
from gglib_nb.errors import CatalogError
from gglib_nb.queue.effects import RegisterModel

_TAIL_BYTES: Final = 4096
_MOST_CHARACTERS: Final = 200

Report = Callable[[DownloadId, Then], None]
Completed = Callable[[QueuedDownload], object]


class Commands:
    """The commands of one manager. Every method may be called from any thread.

    Args:
        catalog: Records which shell lines were started.
        report: Shows the state of a download's command; must not wait.
    """

    def __init__(self, catalog: Catalog, report: Report) -> None:
        self._catalog: Final = catalog
        self._report: Final = report
        self._callables: Final[dict[DownloadId, tuple[str, Completed]]] = {}

    def keep(self, id_: DownloadId, name: str, then: Completed | None) -> None:
        """Stores `then`, to be called when the download is complete; None removes that of an earlier download of this id."""
        if then is None:
            self._callables.pop(id_, None)
        else:
            self._callables[id_] = (name, then)
            self._report(id_, Then(name))

    def handle(self, event: QueueEvent) -> None:
        """Handles an event of the queue."""
        if isinstance(event, DownloadCompleted):
            self.complete(event.download)

    def complete(self, download: QueuedDownload) -> None:
        """Runs the callable of a complete download, on a thread of its own."""
        name, then = self._callables.pop(download.id, ("", None))
        if then is not None:
            self._run(download.id, name, partial(_call, then, download))

    def start(self, effect: RegisterModel) -> None:
        """Starts the shell line of a download, unless it was started before. Reads and writes the models database."""
        plan, line = effect.plan, effect.plan.then
        if line is None:
            return
        try:
            is_first = self._catalog.note_command(f"{plan.id} {effect.queued_at_s!r}", time.time())
        except CatalogError as error:
            self._report(plan.id, Then(line, "failed", f"it was not started. {error}"))
            return
        if is_first:
            path = next((file.target for file in effect.files if file.kind == "shard"), "")
            self._run(plan.id, line, partial(_call_shell, line, {"GGUF_PATH": path, "GGUF_ID": str(plan.id)}))
        else:  # started by a kernel that stopped before it stored the queue
            self._report(plan.id, Then(line, "done"))

    def _run(self, id_: DownloadId, text: str, run: Callable[[], str]) -> None:
        def work() -> None:
            self._report(id_, Then(text, "running"))
            error = run()
            self._report(id_, Then(text, "failed", error) if error else Then(text, "done"))

        threading.Thread(target=work, name="gglib-then", daemon=True).start()


def _call(then: Completed, download: QueuedDownload) -> str:
    """The error of the callable; empty: none."""
    try:
        then(download)
    except BaseException as error:  # noqa: BLE001 - the row shows it
        return f"{type(error).__name__}: {error}"[:_MOST_CHARACTERS]
    return ""


def _call_shell(line: str, variables: dict[str, str]) -> str:
    """The error of the line: its exit code, and the last line of its standard error; empty: none."""
    try:
        with tempfile.TemporaryFile() as output:
            code = subprocess.run(  # noqa: S602 - a user wrote the line
                line,
                shell=True,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                env=without_tokens(os.environ) | variables,
                start_new_session=True,  # an interrupt of the kernel does not reach it
            ).returncode
            output.seek(max(0, output.seek(0, os.SEEK_END) - _TAIL_BYTES))
            said = output.read().decode(errors="replace").strip().splitlines()
    except (OSError, ValueError) as error:  # also if there is no folder for temporary files
        return f"it could not be started: {error}"[:_MOST_CHARACTERS]
    last = f": {said[-1].strip()[:_MOST_CHARACTERS]}" if said else ""
    return f"exit code {code}{last}" if code else ""
