"""What follows a download: its command runs once it is complete, and it is retried once the Hub grants access.

A command is a shell line, stored with the download, or a callable of this kernel. A shell line is recorded in the
models database before it starts, so it starts only once, whichever kernel completes the download. The queue thread
waits for neither.
"""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from inspect import iscoroutine
from typing import Final

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.names import DownloadId, modelscope_name
from gglib_nb.domain.snapshot import QueuedDownload, QueueSnapshot, Then
from gglib_nb.domain.text import without_tokens
from gglib_nb.errors import CatalogError, GatedRepoError, GglibError, InvalidTokenError, NotInQueueError
from gglib_nb.manager.operations import FinishedDownload
from gglib_nb.queue.effects import QueuePosition, RegisterModel

_TAIL_BYTES: Final = 4096
_MOST_CHARACTERS: Final = 200

Finish = Callable[[FinishedDownload], object]


class Commands:
    """The commands of one manager. Its methods, except `start`, are called on the queue's thread.

    Args:
        catalog: Records which shell lines were started.
        report: Shows the state of a download's command; must not wait.
    """

    def __init__(self, catalog: Catalog, report: Callable[[DownloadId, Then], None]) -> None:
        self._catalog: Final = catalog
        self._report: Final = report
        self._callables: Final[dict[DownloadId, list[Finish]]] = {}

    def keep(self, then: object, place: QueuePosition) -> QueuePosition:
        """Calls `then`, if it is callable, once when the download is complete, however many requests pass it."""
        if place.is_new:
            self._callables.pop(place.id, None)  # those of an earlier download of this id
        if callable(then):
            kept = self._callables.setdefault(place.id, [])
            kept += [then] if then not in kept else []
            self._report(place.id, Then(_names(kept)))
        return place

    def complete(self, download: QueuedDownload) -> None:
        """Runs the callables of a complete download in their order, on a thread of their own."""
        if kept := self._callables.pop(download.id, []):
            # A script that ends waits for it, as for any function; a shell line continues without its script.
            self._run(download.id, _names(kept), partial(_call_all, kept, download), daemon=False)

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

    def _run(self, id_: DownloadId, text: str, run: Callable[[], str], *, daemon: bool = True) -> None:
        def work() -> None:
            self._report(id_, Then(text, "running"))
            error = run()
            self._report(id_, Then(text, "failed", error) if error else Then(text, "done"))

        try:
            threading.Thread(target=work, name="gglib-then", daemon=daemon).start()
        except RuntimeError as error:  # there are too many threads, or the interpreter is ending
            self._report(id_, Then(text, "failed", f"it was not started: {error}"))


def _names(callables: Iterable[Finish]) -> str:
    return ", ".join(getattr(call, "__name__", type(call).__name__) for call in callables)


def _call_all(callables: Iterable[Finish], download: QueuedDownload) -> str:
    """The errors of the callables; empty: none."""
    errors: list[str] = []
    for call in callables:
        try:
            if iscoroutine(result := call(FinishedDownload.of(download))):
                result.close()
                raise TypeError("it is async, so it was not run")  # noqa: TRY301 - the row shows it
        except BaseException as error:  # noqa: BLE001 - the row shows it
            errors.append(type(error).__name__)
            with suppress(Exception):  # making its text may fail, too
                errors[-1] += f": {error}"
    return "; ".join(errors)[:_MOST_CHARACTERS]


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


def retry_granted(
    snapshot: QueueSnapshot, check: Callable[[str], None], retry: Callable[[DownloadId], object]
) -> list[DownloadId]:
    """Retries the downloads whose repositories the Hub gives access to now, which `check` says; returns them.

    If some are refused, the others are retried, and the first error is raised.
    """
    retried: list[DownloadId] = []
    errors: list[GglibError] = []
    for id_ in waiting_for_access(snapshot):
        try:
            check(id_.repo_id)
        except GglibError:  # no access yet
            continue
        try:
            retry(id_)
        except NotInQueueError:  # it has been retried meanwhile
            continue
        except GglibError as error:
            errors.append(error)
        else:
            retried.append(id_)
    if errors:
        raise errors[0]
    return retried


def waiting_for_access(snapshot: QueueSnapshot) -> list[DownloadId]:
    """The failed downloads that access would fix. ModelScope gets no token, so a login changes nothing there."""
    return [
        item.id
        for item in snapshot.recent_failures
        if modelscope_name(item.id.repo_id) is None
        and (
            isinstance(item.error, InvalidTokenError)
            or (isinstance(item.error, GatedRepoError) and item.error.state != "rejected")
        )
    ]
