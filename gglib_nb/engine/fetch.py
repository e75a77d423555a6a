"""Connection threads: each fetches one range after the other and writes it where it belongs.

A `Job` is a range under way. Its bytes are written under its lock, and only while it is not revoked and
only up to its end, which the coordinator may pull in; so no byte is written by two, and after `revoke`
has returned nothing is written any more. A `Fetcher` moves bytes and reports; it decides nothing.
"""

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gglib_nb.engine.connection import Answer, ClientConnection, Connection, DirectConnection
from gglib_nb.engine.partial import Partial
from gglib_nb.engine.place import storage_error
from gglib_nb.engine.ranges import MIB
from gglib_nb.engine.resolve import REDIRECT_STATUSES
from gglib_nb.engine.retry import (
    EXPIRED_STATUSES,
    TRANSIENT_STATUSES,
    BusyError,
    ExpiredUrlError,
    LineError,
    MovedError,
    RangeIgnoredError,
    WrongAnswerError,
    asked_wait_s,
)
from gglib_nb.engine.throttle import Throttle
from gglib_nb.engine.web import Web
from gglib_nb.errors import RemoteChangedError

# The slice that is read at once grows and shrinks so that it takes about so long: a stop is seen soon, a kill loses
# little, and a fast line still fills the whole buffer.
_SLICE_S: Final = 0.1
_SMALLEST_SLICE_BYTES: Final = 4 * 1024
_FIRST_SLICE_BYTES: Final = 64 * 1024
BUFFER_BYTES: Final = MIB

# Who waits for the digest looks so often whether it has caught up.
_LOOK_S: Final = 0.01

_CONTENT_RANGE: Final = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a part come from.

    Attributes:
        url: Serves them.
        size_bytes: Of the part; None unknown.
        is_whole: Ask for the whole without a range.
        by_client: Take httpx.
    """

    url: str
    size_bytes: int | None
    is_whole: bool
    by_client: bool


class Job:
    """A range of a partial file that one fetcher brings.

    Attributes:
        source: Where from.
        part_offset: Where the part begins in the file.
        start: First byte, in the file.
        position: Next byte to be written; only the fetcher moves it.
        end: One past the last byte; None where unknown. Only the coordinator moves it.
    """

    def __init__(self, source: Source, partial: Partial, part_offset: int, start: int, end: int | None) -> None:
        self.source = source
        self.part_offset = part_offset
        self.start = start
        self.position = start
        self.end = end
        self._partial = partial
        self._lock = threading.Lock()
        self._is_revoked = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to fetch."""
        return self._is_revoked or self.position == self.end

    @property
    def is_far_ahead(self) -> bool:
        """Whether the digest of the file should catch up before more is fetched."""
        return not self.is_over and self._partial.follower.is_far_behind

    def put(self, view: memoryview) -> None:
        """Write the next bytes; what lies beyond the end is dropped. Called by the fetcher.

        Raises:
            LeaseLostError: The file may belong to another process.
            TransferError: The bytes cannot be written.
        """
        with self._lock:
            if self._is_revoked:
                return
            if self.end is not None:
                view = view[: self.end - self.position]
            at = self.position
            try:
                self._partial.write(at, view)
            except OSError as error:
                raise storage_error(error, self._partial.path) from error
            self.position = at + len(view)
        self._partial.follower.offer(self.start, at, view)

    def cut(self, end: int) -> bool:
        """Pull the end in; False where the fetcher is beyond it already. Called by the coordinator."""
        with self._lock:
            if self._is_revoked or self.position > end:
                return False
            self.end = end
            return True

    def end_here(self) -> None:
        """The body of unknown length is at its end. Called by the fetcher."""
        with self._lock:
            self.end = self.position

    def revoke(self) -> None:
        """Nothing is written any more once this has returned. Called by the coordinator."""
        with self._lock:
            self._is_revoked = True


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A fetcher is done with a job.

    Attributes:
        fetcher: Which one.
        job: What it had to do; its `position` says how far it came.
        error: What went wrong; None when it is complete, or when its rest should be given out anew.
    """

    fetcher: "Fetcher"
    job: Job
    error: Exception | None


class Fetcher:
    """One connection and its thread.

    Attributes:
        job: What it does; None while idle. Only the coordinator touches it.
        answer_s: What its last request took to the head of the answer, connecting included; None before the first.
        is_waiting: Waits for the bandwidth limit or the digest, so that it does not stall.
    """

    def __init__(self, web: Web, throttle: Throttle, report: Callable[[JobEnded], None]) -> None:
        """Start the thread; it opens its connection with the first job."""
        self.job: Job | None = None
        self.answer_s: float | None = None
        self.is_waiting = False
        self._web = web
        self._throttle = throttle
        self._report = report
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._slice_bytes = _FIRST_SLICE_BYTES
        self._narrowed_to: float | None = None
        threading.Thread(target=self._run, name="gglib-fetch", daemon=True).start()

    def assign(self, job: Job) -> None:
        """Fetch this; the end is reported."""
        self.job = job
        self._jobs.put(job)

    def close(self) -> None:
        """End the thread and its connection at once; a job under way is reported as broken. The caller revokes it."""
        self._stop.set()
        self._jobs.put(None)
        if self._connection is not None:
            self._connection.abort()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stop.is_set():
            error: Exception | None = None
            try:
                self._fetch(job)
            except Exception as raised:  # noqa: BLE001  # the coordinator sorts them, and a bug must reach it too
                error = raised
                self._drop_connection()
            self._report(JobEnded(self, job, error))
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._narrowed_to = None

    def _fetch(self, job: Job) -> None:
        connection = self._connection_for(job.source)
        source = job.source
        headers = self._web.headers_for(source.url)
        if not source.is_whole:
            last = "" if job.end is None else job.end - job.part_offset - 1
            headers["Range"] = f"bytes={job.start - job.part_offset}-{last}"
        asked_s = time.monotonic()
        answer = connection.ask(source.url, headers)
        self.answer_s = time.monotonic() - asked_s
        if not self._stop.is_set():
            check_answer(answer, source, job)
            self._read(connection, answer, job)

    def _connection_for(self, source: Source) -> Connection:
        kind = ClientConnection if source.by_client or self._web.is_proxied(source.url) else DirectConnection
        if self._is_narrowed_in_vain:
            self._drop_connection()
        if not isinstance(self._connection, kind):
            self._drop_connection()
            self._connection = kind(self._web)
        return self._connection

    def _read(self, connection: Connection, answer: Answer, job: Job) -> None:
        while not job.is_over and not self._is_narrowed_in_vain:
            self._narrow(connection)
            wanted = self._slice_bytes if job.end is None else min(self._slice_bytes, job.end - job.position)
            began_s = time.monotonic()
            count = answer.readinto(self._buffer[: max(1, wanted)])
            if count == 0 or self._stop.is_set():
                self._end_of_body(job)
                break
            self._adapt_slice(count, time.monotonic() - began_s)
            job.put(self._buffer[:count])
            self._wait(job, count)
        answer.finish()

    def _end_of_body(self, job: Job) -> None:
        if self._stop.is_set() or job.end is not None:
            raise LineError("the connection ended early")
        job.end_here()

    def _adapt_slice(self, count: int, took_s: float) -> None:
        if took_s > 2 * _SLICE_S:
            self._slice_bytes = max(_SMALLEST_SLICE_BYTES, self._slice_bytes // 2)
        elif count == self._slice_bytes and took_s < _SLICE_S / 2:
            self._slice_bytes = min(BUFFER_BYTES, self._slice_bytes * 2)

    def _narrow(self, connection: Connection) -> None:
        """Under a bandwidth limit, let neither a slice nor the system's buffer run far ahead of it."""
        limit = self._throttle.bytes_per_second
        if limit is None:
            return
        self._slice_bytes = max(_SMALLEST_SLICE_BYTES, min(self._slice_bytes, int(limit * _SLICE_S / 2)))
        if limit != self._narrowed_to:
            connection.narrow(max(16 * 1024, min(BUFFER_BYTES, int(limit * _SLICE_S))))
            self._narrowed_to = limit

    @property
    def _is_narrowed_in_vain(self) -> bool:
        """The connection was made slow for a limit that is gone, and cannot be made fast again."""
        return self._narrowed_to is not None and self._throttle.bytes_per_second is None

    def _wait(self, job: Job, count: int) -> None:
        self.is_waiting = True
        self._throttle.pay(count, self._stop)
        while job.is_far_ahead and not self._stop.wait(_LOOK_S):
            pass
        self.is_waiting = False


def check_answer(answer: Answer, source: Source, job: Job) -> None:
    """Whether the body that follows is what the job asked for.

    Raises:
        ExchangeError: It is not; the class says what to do.
        RemoteChangedError: It is another file.
    """
    if answer.status == 206 and not source.is_whole:
        _check_range(answer.headers, source, job)
    elif answer.status == 200:
        _check_whole(answer.headers, source, job)
    elif answer.status in REDIRECT_STATUSES:
        raise MovedError(answer.headers.get("location", ""))
    elif answer.status in TRANSIENT_STATUSES:
        raise BusyError(answer.status, asked_wait_s(answer.status, answer.headers))
    elif answer.status in EXPIRED_STATUSES:
        raise ExpiredUrlError(f"HTTP {answer.status}")
    elif answer.status == 416:
        _check_refused_range(answer.headers, source)
    else:
        raise WrongAnswerError(f"HTTP {answer.status}")


def _check_range(headers: Mapping[str, str], source: Source, job: Job) -> None:
    match = _CONTENT_RANGE.match(headers.get("content-range", ""))
    if match is None:
        raise WrongAnswerError("a 206 without a range")
    if int(match[1]) != job.start - job.part_offset:
        raise WrongAnswerError("another range than asked for")
    if match[3] != "*" and source.size_bytes is not None and int(match[3]) != source.size_bytes:
        raise WrongAnswerError("a file of another size")
    if headers.get("content-encoding", "identity") != "identity":
        raise WrongAnswerError("an encoded range")


def _check_whole(headers: Mapping[str, str], source: Source, job: Job) -> None:
    is_all_of_it = job.start == job.part_offset and source.size_bytes is not None
    is_all_of_it = is_all_of_it and job.end == job.part_offset + (source.size_bytes or 0)
    is_encoded = headers.get("content-encoding", "identity") != "identity"
    if not source.is_whole and (is_encoded or not is_all_of_it):
        raise RangeIgnoredError("the range was ignored")
    length = headers.get("content-length", "")
    if length.isdigit() and not is_encoded and source.size_bytes not in (None, int(length)):
        raise WrongAnswerError("a file of another size")


def _check_refused_range(headers: Mapping[str, str], source: Source) -> None:
    total = headers.get("content-range", "").rpartition("/")[2]
    if total.isdigit() and source.size_bytes is not None and int(total) != source.size_bytes:
        raise RemoteChangedError("The CDN now serves a file of another size; queue the download again.")
    raise WrongAnswerError("HTTP 416")
