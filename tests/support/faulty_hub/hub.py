"""The tests' hub: the embedded hub with faults, a log of requests and sent bytes, and a variable speed.

It overrides one method of the embedded hub, `answer`, which makes all faults.
"""

import random
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from weakref import WeakKeyDictionary

from typing_extensions import override

from gglib_nb.demo import DemoFile, DemoHub, DemoRepository
from gglib_nb.demo.messages import ByteRange, Request, Response
from gglib_nb.demo.server import Line
from gglib_nb.demo.throttle import Throttle
from tests.support.faulty_hub.answers import TOKENS, Answers
from tests.support.faulty_hub.delivery import deliver, delivery_of
from tests.support.faulty_hub.faults import Faults
from tests.support.faulty_hub.request_log import Predicate, RequestLog, RequestRecord

EdgeLottery = Callable[[], float | None]


def edge_lottery(choices: Sequence[tuple[float, float | None]], seed: int = 0) -> EdgeLottery:
    """Make a lottery of speeds for new CDN connections, the same for the same seed.

    Args:
        choices: pairs of weight and bytes per second; `None` for a speed means unlimited.
        seed: determines the order.
    """
    source = random.Random(seed)  # repeatable, not secret
    weights, speeds = zip(*choices, strict=True)
    return lambda: source.choices(speeds, weights)[0]


class FaultyHub(DemoHub):
    """A Hub-compatible server on loopback with configurable faults. A context manager; usable from any thread.

    Args:
        repositories: the initial repositories; `add_repository` adds more.
        bytes_per_second: limit for all file bytes together; `None` means unlimited.
        per_connection: limit for each connection, in bytes per second; `None` means unlimited.
        signed_url_ttl_s: seconds for which a URL of the CDN works.
        tokens: the repository ids that each known token can access, `*` for all.
        page_size: entries per page of a listing.
        log_file: where to append the log as JSON lines; `None` means no file.
        tls: the certificate with which both origins speak HTTPS; `None` means plain HTTP.

    Attributes:
        faults: the active faults; see `fault_kinds`.
        log: requests and sent bytes.
    """

    def __init__(
        self,
        repositories: Iterable[DemoRepository] = (),
        *,
        bytes_per_second: float | None = None,
        per_connection: float | None = None,
        signed_url_ttl_s: float = 3600,
        tokens: Mapping[str, Collection[str]] = TOKENS,
        page_size: int = 1000,
        log_file: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            repositories,
            bytes_per_second=bytes_per_second,
            signed_url_ttl_s=signed_url_ttl_s,
            tokens=tokens,
            page_size=page_size,
            tls=tls,
        )
        self.faults = Faults()
        self.log = RequestLog(log_file)
        self._answers = Answers()
        self._lock = Lock()
        self._per_connection = per_connection
        self._own_limits: WeakKeyDictionary[Line, Throttle] = WeakKeyDictionary()
        self._lottery: EdgeLottery | None = None

    @override
    def answer(self, line: Line, request: Request, respond: Callable[[Request], Response]) -> bool:
        self._limit_line(line, request)
        number = self.log.start(request)
        is_whole = False
        try:
            response = self.faults.apply(request, self._answers.respond(request, respond))
            self.log.answer(number, response.status, response.subject)
            is_whole = deliver(line, request, response, lambda size_bytes: self.log.sent(number, size_bytes))
        finally:
            self.log.end(number, is_whole=is_whole)
        return is_whole and delivery_of(response).framing != "close"

    @override
    def stop(self) -> None:
        """Stop listening, cut all connections and close the log. It cannot be started again."""
        super().stop()
        with self._lock:
            limits = list(self._own_limits.values())
        for limit in limits:
            limit.close()
        self.log.close()

    @property
    def cdn_url(self) -> str:
        """The CDN's origin."""
        return self._cdn_server.url

    def add_repository(self, repository: DemoRepository) -> DemoRepository:
        """Serve another repository, or replace one with the same id."""
        self._hub.add(repository)
        return repository

    def move_branch(self, repo_id: str, name: str, files: Iterable[DemoFile], title: str = "Upload") -> str:
        """Make a new commit of `files` with a title, point the branch to it, and return the commit's id."""
        return self._hub.repositories[repo_id].move(name, files, title)

    def set_speed(self, bytes_per_second: float | None = None, per_connection: float | None = None) -> None:
        """Change the limits now, also for running responses: `None` means unlimited, 0 holds everything."""
        with self._lock:
            self._per_connection = per_connection
            self._lottery = None
            own_limits = list(self._own_limits.values())
        self._limit.set(bytes_per_second)
        for limit in own_limits:
            limit.set(per_connection)

    def set_edge_lottery(self, lottery: EdgeLottery | None) -> None:
        """Let each new CDN connection draw its own limit; `None` ends that."""
        with self._lock:
            self._lottery = lottery

    def expire_signed_urls(self) -> None:
        """Make all URLs signed so far invalid; new ones work."""
        self._cdn.expire_all()

    def drop_connections(self) -> None:
        """Close all connections at once, as a restarting server does; it continues to listen."""
        self._hub_server.drop_connections()
        self._cdn_server.drop_connections()

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """All requests in the order in which they came, also the running ones."""
        return self.log.records

    def wait_for(self, predicate: Predicate, timeout_s: float = 60) -> tuple[RequestRecord, ...]:
        """Wait until `predicate` holds for the requests and return them; checked after every change.

        Raises:
            TimeoutError: it did not within `timeout_s`.
        """
        return self.log.wait_for(predicate, timeout_s)

    def ranges(self, path_in_repo: str) -> list[ByteRange | None]:
        """The ranges of a file requested from the CDN, in order; `None` is a request for the whole file."""
        return [
            record.range
            for record in self.requests
            if record.origin == "cdn" and record.path_in_repo == path_in_repo and record.method == "GET"
        ]

    def bytes_sent(self, path_in_repo: str | None = None) -> int:
        """Body bytes sent of a file, or where `None` of all files."""
        return sum(
            record.bytes_sent
            for record in self.requests
            if record.carries_file and path_in_repo in {None, record.path_in_repo}
        )

    def flow(self, path_in_repo: str | None = None) -> list[tuple[float, int]]:
        """Bytes sent per tenth of a second: (start in monotonic seconds, bytes), empty tenths left out."""
        return self.log.flow(path_in_repo)

    def _limit_line(self, line: Line, request: Request) -> None:
        """Assign a connection its own limit with its first request."""
        with self._lock:
            if line not in self._own_limits:
                is_drawn = self._lottery is not None and request.origin == "cdn"
                limit = Throttle(self._lottery() if self._lottery and is_drawn else self._per_connection)
                line.limits.insert(0, limit)
                self._own_limits[line] = limit
