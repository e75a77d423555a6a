"""The long operations of a transfer, and the events in its inbox.

Asking the hub, reading files, syncing and renaming are jobs on threads of their own, which do not know the transfer.
The names of the jobs that run for a file are in `DownloadFile.jobs`; each job ends with the event `JobEnded`.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from msgspec import Struct

from gglib_nb.domain.download import Facts, StoredFile
from gglib_nb.domain.gguf_reuse import ReuseLimits
from gglib_nb.domain.values import Value
from gglib_nb.engine.connections import Pool, RequestEnded
from gglib_nb.engine.digest import Digested
from gglib_nb.engine.disk import DiskSpace, storage_error
from gglib_nb.engine.file import DownloadFile
from gglib_nb.engine.http import Session
from gglib_nb.engine.lease import delete_unowned
from gglib_nb.engine.local import CheckResult, TargetCheck, read_facts
from gglib_nb.engine.partial import PartialFile
from gglib_nb.engine.pieces import Range
from gglib_nb.engine.resolve import Remote
from gglib_nb.engine.retry import Connectivity
from gglib_nb.engine.reuse import Comparison, TensorCopy
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import GglibError
from gglib_nb.system import sync_data


class Shared(Struct):
    """The state that all transfers of an engine share. Each part is thread-safe; only the command loop sets fields."""

    session: Session
    connectivity: Connectivity
    pool: Pool
    disk_space: DiskSpace
    timeouts: Timeouts
    reuse_limits: ReuseLimits = ReuseLimits()
    link_folders: tuple[str, ...] = ()
    network_wait_s: float = 0.0


# --- Events -----------------------------------------------------------------------------------------------------------


Result = CheckResult | Remote | Comparison | TensorCopy | list[Range] | Facts | StoredFile | None
"""What a job returns: of the check, the hub, a comparison, a copy, a sync, the header and the rename."""


class JobEnded(Value, frozen=True):
    """A job for a file has ended: with its result, or with an error. `version` is that of the file when it began."""

    name: str
    file: DownloadFile
    version: int
    result: Result | Exception


Event = JobEnded | RequestEnded | Digested
Inbox = queue.SimpleQueue[Any]  # of events


def release(event: JobEnded) -> None:
    """Release the resources of a result that no transfer will handle."""
    with contextlib.suppress(OSError, GglibError):
        file, result = event.file, event.result
        if event.name == "check":
            file.jobs.discard("check")
            if isinstance(result, CheckResult) and result.opened is not None:
                file.begin(result.opened, None, 0.0)
            file.close()
        elif event.name == "sync" and isinstance(result, Exception):
            delete_unowned(file.path)  # its bytes may be lost, and no other sync will report it


# --- The jobs ---------------------------------------------------------------------------------------------------------


def run_job(name: str, file: DownloadFile, version: int, work: Callable[..., Result], *args: object) -> JobEnded:
    """Run a job; any error is in the event, because the transfer would otherwise wait forever."""
    result: Result | Exception
    try:
        result = work(*args)
    except Exception as error:  # noqa: BLE001  # as above
        result = storage_error(error, file.path) if isinstance(error, OSError) else error
    return JobEnded(name, file, version, result)


def prepare(file: DownloadFile, check: TargetCheck, reserve: Callable[[], None], inbox: Inbox) -> CheckResult:
    """Check a target; if the file has to be fetched, reserve its space and open its partial file.

    It does not release the lease, which the transfer's thread may be renewing.
    """
    found = check.run()
    if found.stored is None:
        reserve()
        opened = PartialFile(file.path, file.identities, file.size_bytes, check.lease, inbox, check.stop)
        found = replace(found, opened=opened)
    return found


def sync(descriptors: Sequence[int], ranges: list[Range]) -> list[Range]:
    """Sync these files to the disk, in order, and close them; these are the bytes in them."""
    try:
        for fd in descriptors:
            sync_data(fd)
    finally:
        for fd in descriptors:
            os.close(fd)
    return ranges


def finalize(
    file: DownloadFile, opened: PartialFile, stored: StoredFile, rename_lock: threading.Lock, may_replace: bool
) -> StoredFile | None:
    """Give a proven file its final name; None if the transfer was stopped before."""
    try:
        if not stored.facts:
            stored = replace(stored, facts=read_facts(opened.path))
        mtime_ns = opened.finish(file.path, stored.sha256 or "", rename_lock, may_replace=may_replace)
    finally:
        opened.close(is_ours=False)
    return None if mtime_ns is None else replace(stored, mtime_ns=mtime_ns)
