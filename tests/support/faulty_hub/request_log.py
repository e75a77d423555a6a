"""Requests to the embedded hub and sent bytes: a log that other threads can read and wait on.

Returned records are frozen copies; the live ones stay here. Tokens are never stored: of an
`Authorization` header only its presence. Knows nothing about routes.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Condition
from typing import TextIO

from gglib_nb.demo.messages import ByteRange, Request
from gglib_nb.demo.repositories import Located

_BUCKETS_PER_SECOND = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request and its outcome. Times are seconds of `time.monotonic()`.

    Attributes:
        path: decoded per segment, without the query.
        headers: names in lower case; the value of `authorization` is `***`.
        range: first and last requested byte; `None` for the whole file. An open end is `None`.
        repo_id: the repository of the response; `None` if it has none.
        path_in_repo: the file of the response, also at the CDN; `None` if it has none.
        status: `None` until the response is decided.
        bytes_sent: body bytes so far, counted before each slice of at most a mebibyte is sent.
        ended_s: `None` while it runs.
        is_whole: whether the response was sent completely; `False` while it runs.
    """

    number: int
    origin: str
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    range: ByteRange | None
    connection_id: int
    started_s: float
    repo_id: str | None = None
    commit_sha: str | None = None
    path_in_repo: str | None = None
    status: int | None = None
    bytes_sent: int = 0
    ended_s: float | None = None
    is_whole: bool = False

    @property
    def carries_file(self) -> bool:
        """Whether the body is bytes of the file, not the text of a redirect or an error."""
        return self.path_in_repo is not None and self.status in {200, 206}


Predicate = Callable[[tuple[RequestRecord, ...]], bool]


class RequestLog:
    """The log of one hub. Safe from any thread.

    Args:
        file: where to write JSON lines: a line per started and ended request and, per tenth of a
            second in which bytes flowed, a line with their number. `None` means nowhere.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._changed = Condition()
        self._records: list[RequestRecord] = []
        self._flow: dict[str, Counter[int]] = {}
        self._bucket = 0
        self._file: TextIO | None = file.open("a", encoding="utf-8") if file else None

    @property
    def records(self) -> tuple[RequestRecord, ...]:
        """All requests in the order in which they came."""
        with self._changed:
            return tuple(self._records)

    def start(self, request: Request) -> int:
        """Record a received request and return its number."""
        headers = {name: "***" if name == "authorization" else value for name, value in request.headers.items()}
        with self._changed:
            record = RequestRecord(
                number=len(self._records),
                origin=request.origin,
                method=request.method,
                path="/" + "/".join(request.segments),
                query=request.query,
                headers=headers,
                range=request.range,
                connection_id=request.connection_id,
                started_s=time.monotonic(),
            )
            self._records.append(record)
            self._write("started", record)
            self._changed.notify_all()
        return record.number

    def answer(self, number: int, status: int, subject: Located | None) -> None:
        """Record the response to a request."""
        with self._changed:
            record = replace(self._records[number], status=status)
            if subject is not None:
                record = replace(
                    record,
                    repo_id=subject.repo_id,
                    commit_sha=subject.commit_sha,
                    path_in_repo=subject.file.path,
                )
            self._records[number] = record
            self._changed.notify_all()

    def sent(self, number: int, size_bytes: int) -> None:
        """Record body bytes handed to the network."""
        bucket = int(time.monotonic() * _BUCKETS_PER_SECOND)
        with self._changed:
            record = self._records[number]
            self._records[number] = replace(record, bytes_sent=record.bytes_sent + size_bytes)
            self._write_flow_before(bucket)
            if record.carries_file:
                self._flow.setdefault(str(record.path_in_repo), Counter())[bucket] += size_bytes
            self._changed.notify_all()

    def end(self, number: int, *, is_whole: bool) -> None:
        """Record the end of a request."""
        with self._changed:
            self._records[number] = replace(self._records[number], ended_s=time.monotonic(), is_whole=is_whole)
            self._write("ended", self._records[number])
            self._changed.notify_all()

    def wait_for(self, predicate: Predicate, timeout_s: float) -> tuple[RequestRecord, ...]:
        """Wait until `predicate` holds for the records and return them.

        Raises:
            TimeoutError: it did not within `timeout_s`; the text lists the last requests.
        """
        with self._changed:
            if self._changed.wait_for(lambda: predicate(tuple(self._records)), timeout_s):
                return tuple(self._records)
            last = "; ".join(f"{record.method} {record.path} {record.status}" for record in self._records[-5:])
            raise TimeoutError(f"The condition did not become true within {timeout_s} s. Last: {last or 'none'}")

    def flow(self, path_in_repo: str | None = None) -> list[tuple[float, int]]:
        """Bytes of files sent per tenth of a second, as (start in monotonic seconds, bytes), empty tenths left out.

        Args:
            path_in_repo: count one file only; `None` counts all files.
        """
        with self._changed:
            total: Counter[int] = Counter()
            for subject, buckets in self._flow.items():
                if path_in_repo is None or subject == path_in_repo:
                    total.update(buckets)
        return [(bucket / _BUCKETS_PER_SECOND, total[bucket]) for bucket in sorted(total)]

    def close(self) -> None:
        """Write the remaining lines to the file and close it."""
        with self._changed:
            if self._file is not None:
                self._write_flow_before(self._bucket + 1)
                self._file.close()
                self._file = None

    def _write(self, event: str, record: RequestRecord) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"event": event, **asdict(record)}) + "\n")
            self._file.flush()

    def _write_flow_before(self, bucket: int) -> None:
        """Write the last tenth of a second."""
        if self._file is not None and bucket > self._bucket > 0:
            sizes = {subject: buckets[self._bucket] for subject, buckets in self._flow.items() if buckets[self._bucket]}
            line = {"event": "flow", "at_s": self._bucket / _BUCKETS_PER_SECOND, "bytes": sizes}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        self._bucket = bucket
