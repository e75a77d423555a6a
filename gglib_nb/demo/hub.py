"""The embedded hub as one object: two origins, repositories, faults, speed and the log.

This is what tests and the command line hold; the parts behind it do not know it.
"""

import random
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Self
from weakref import WeakSet

from gglib_nb.demo.cdn import Cdn
from gglib_nb.demo.faults import Faults
from gglib_nb.demo.messages import ByteRange, Request, Response
from gglib_nb.demo.refusals import DEFAULT_TOKENS, Access
from gglib_nb.demo.repositories import DemoFile, DemoRepository
from gglib_nb.demo.request_log import Predicate, RequestLog, RequestRecord
from gglib_nb.demo.routes import Hub
from gglib_nb.demo.server import OriginServer
from gglib_nb.demo.throttle import Throttle

EdgeLottery = Callable[[], float | None]


def edge_lottery(choices: Sequence[tuple[float, float | None]], seed: int = 0) -> EdgeLottery:
    """Make a lottery of speeds for new CDN connections, the same for the same seed.

    Args:
        choices: pairs of weight and bytes per second; `None` for a speed means unlimited.
        seed: another seed draws in another order.
    """
    source = random.Random(seed)  # noqa: S311  # a repeatable order, not a secret
    weights, speeds = zip(*choices, strict=True)
    return lambda: source.choices(speeds, weights)[0]


class DemoHub:
    """A Hub-compatible server on loopback. A context manager; usable from any thread.

    Args:
        repositories: what it serves at first; `add_repository` adds more.
        bytes_per_second: limit for all file bytes together; `None` means unlimited.
        per_connection: limit for each connection, in bytes per second; `None` means unlimited.
        signed_url_ttl_s: seconds for which a URL of the CDN works.
        tokens: the repository ids each known token opens, `*` for all.
        page_size: entries per page of a listing.
        port: port of the hub's origin; 0 takes a free one.
        log_file: where to append the log as JSON lines; `None` means nowhere.
        tls: the certificate with which both origins speak HTTPS; `None` means plain HTTP.

    Raises:
        OSError: the port is taken.

    Attributes:
        faults: what shall go wrong; see `gglib_nb.demo.fault_kinds`.
        log: what was asked and sent.
    """

    def __init__(
        self,
        repositories: Iterable[DemoRepository] = (),
        *,
        bytes_per_second: float | None = None,
        per_connection: float | None = None,
        signed_url_ttl_s: float = 3600,
        tokens: Mapping[str, Collection[str]] = DEFAULT_TOKENS,
        page_size: int = 1000,
        port: int = 0,
        log_file: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.faults = Faults()
        self.log = RequestLog(log_file)
        self._lock = Lock()
        self._shared_limit = Throttle(bytes_per_second)
        self._per_connection = per_connection
        self._own_limits: WeakSet[Throttle] = WeakSet()
        self._lottery: EdgeLottery | None = None
        self._cdn = Cdn(signed_url_ttl_s)
        self._hub = Hub(self._cdn, Access(tokens), page_size)
        for repository in repositories:
            self._hub.add(repository)
        self._hub_server = OriginServer("hub", port, self._answer_at_hub, self.log, self._hub_limits, tls)
        self._cdn_server = OriginServer("cdn", 0, self._answer_at_cdn, self.log, self._cdn_limits, tls)
        self._hub.origin_url, self._cdn.origin_url = self.url, self.cdn_url

    @property
    def url(self) -> str:
        """The hub's origin, to be used as `HF_ENDPOINT`."""
        return self._hub_server.url

    @property
    def cdn_url(self) -> str:
        """The CDN's origin."""
        return self._cdn_server.url

    @property
    def repositories(self) -> dict[str, DemoRepository]:
        """The repositories served, by id."""
        return dict(self._hub.repositories)

    def start(self) -> Self:
        """Begin to answer."""
        self._hub_server.start()
        self._cdn_server.start()
        return self

    def stop(self) -> None:
        """Stop listening, cut all connections and close the log. It cannot be started again."""
        self._hub_server.stop()
        self._cdn_server.stop()
        with self._lock:
            limits = [self._shared_limit, *self._own_limits]
        for limit in limits:
            limit.close()
        self.log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add_repository(self, repository: DemoRepository) -> DemoRepository:
        """Serve one more repository, or another in the place of one of the same id."""
        self._hub.add(repository)
        return repository

    def move_branch(self, repo_id: str, name: str, files: Iterable[DemoFile], title: str = "Upload") -> str:
        """Make a new commit of `files` with a title, point the branch to it, and return the commit's id."""
        return self._hub.repositories[repo_id].move(name, files, title)

    def set_speed(self, bytes_per_second: float | None = None, per_connection: float | None = None) -> None:
        """Change the limits now, also for running answers: `None` means unlimited, 0 holds everything."""
        with self._lock:
            self._per_connection = per_connection
            self._lottery = None
            own_limits = list(self._own_limits)
        self._shared_limit.set(bytes_per_second)
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
        """Close all connections at once, as a restarting server does; it goes on listening."""
        self._hub_server.drop_connections()
        self._cdn_server.drop_connections()

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """All requests in the order in which they came, also the running ones."""
        return self.log.records

    def wait_for(self, predicate: Predicate, timeout_s: float = 10) -> tuple[RequestRecord, ...]:
        """Wait until `predicate` holds of the requests and return them; looked at after every change.

        Raises:
            TimeoutError: it did not within `timeout_s`.
        """
        return self.log.wait_for(predicate, timeout_s)

    def ranges(self, path_in_repo: str) -> list[ByteRange | None]:
        """The ranges asked of the CDN for a file, in order; `None` stands for a request of the whole."""
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

    def _answer_at_hub(self, request: Request) -> Response:
        return self.faults.apply(request, self._hub.respond(request))

    def _answer_at_cdn(self, request: Request) -> Response:
        return self.faults.apply(request, self._cdn.respond(request))

    def _hub_limits(self) -> tuple[Throttle, Throttle]:
        return self._new_limit(self._per_connection), self._shared_limit

    def _cdn_limits(self) -> tuple[Throttle, Throttle]:
        lottery = self._lottery
        return self._new_limit(lottery() if lottery else self._per_connection), self._shared_limit

    def _new_limit(self, bytes_per_second: float | None) -> Throttle:
        limit = Throttle(bytes_per_second)
        with self._lock:
            self._own_limits.add(limit)
        return limit
