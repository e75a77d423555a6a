"""The connections: worker threads that each fetch one request at a time, the engine's pool, one transfer's share.

A `Worker` decides nothing: it fetches the request it is given and reports the end as an event. The `Pool` outlives
transfers, so that the next model can use a warm connection. `engine.retry` decides what errors mean.
"""

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from gglib_nb.domain.http_rules import MOST_REDIRECTS, Origin, origin_of
from gglib_nb.domain.values import Value
from gglib_nb.engine import pacing
from gglib_nb.engine.disk import new_buffer
from gglib_nb.engine.file import DownloadFile, Part, Request
from gglib_nb.engine.http import Answer, Connection, LineError, MovedError, Session
from gglib_nb.engine.timeouts import Timeouts

# A thread that waits for the bandwidth limit checks for a stop this often, so that a stopped transfer ends soon.
_LOOK_S: Final = 0.1
# A quarter of a second at full rate: 2.5 % of ten seconds, and long enough not to delay every buffer.
_CREDIT_S: Final = 0.25
# A connection's rate is measured over about the last second. It counts once all of it was after the warm-up.
_RATE_S: Final = 1.0
# A new connection with a long round trip is slow at first (TCP's slow start): its warm-up is this many times the part
# of its first byte's latency that exceeds `_SHORT_ANSWER_S`.
_WARM_UP_ANSWERS: Final = 4.0
_SHORT_ANSWER_S: Final = 0.15
# A connection that received a byte within this time is flowing.
_FLOWING_S: Final = 0.3
_FLOWING_LATELY_S: Final = 1.0


class RequestEnded(Value, frozen=True):
    """Event: a worker is done with a request; the request's `position` says how far it came.

    `error` is None if the request is complete, or if another connection should fetch the rest.
    """

    request: Request
    error: Exception | None


class Throttle:
    """The bandwidth limit, shared by all workers; may be used from any thread.

    A connection has already taken the bytes it has read, so it pays afterwards and waits before the next read.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes_per_second: float | None = None  # None is unlimited
        self._clock = clock
        self._paid_until_s = 0.0
        self._changed = threading.Condition()

    def change(self, bytes_per_second: float | None) -> None:
        """Change the limit from now on; waiting workers continue."""
        with self._changed:
            self.bytes_per_second, self._paid_until_s = bytes_per_second, self._clock()
            self._changed.notify_all()

    def pay(self, count: int, stop: threading.Event) -> None:
        """Wait until `count` more bytes may pass, or until `stop` is set or the limit changes.

        Unused time counts up to `_CREDIT_S`.
        """
        with self._changed:
            if (limit := self.bytes_per_second) is None:
                return
            due_s = self._paid_until_s = max(self._paid_until_s, self._clock() - _CREDIT_S) + count / limit
            while not stop.is_set() and self.bytes_per_second == limit and (wait_s := due_s - self._clock()) > 0:
                self._changed.wait(min(wait_s, _LOOK_S))


class Worker:
    """One connection and its thread, which opens it with the first request."""

    def __init__(self, pool: "Pool") -> None:
        self.origin: Origin | None = None  # to which it is connected; None before the first request
        self.answer_s: float | None = None  # from the last request to the head of its answer; None before the first
        self.is_waiting = False  # for the disk or the bandwidth limit, so it does not count as stalled
        self.pace = Pace()  # how fast it is, as the transfer that uses it samples it
        self._pool = pool
        self._work: queue.SimpleQueue[tuple[Request, Session, queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._buffer = new_buffer(pacing.BUFFER_BYTES)
        self._read_bytes = pacing.SMALLEST_READ_BYTES
        threading.Thread(target=self._run, name="gglib-connection", daemon=True).start()

    @property
    def is_connected(self) -> bool:
        """Whether it has a connection."""
        return self._connection is not None

    def assign(self, request: Request, session: Session, inbox: "queue.SimpleQueue[Any]") -> None:
        """Fetch the request; its end is put into the inbox."""
        self.origin = origin_of(request.remote.url)
        self._work.put((request, session, inbox))

    def close(self) -> None:
        """End the thread and its connection; a request in progress is reported as broken, and the caller revokes it."""
        self._stop.set()
        self._work.put(None)
        if (connection := self._connection) is not None:
            connection.abort()

    def _run(self) -> None:
        while (work := self._next()) is not None and not self._stop.is_set():
            request, session, inbox = work
            error: Exception | None = None
            try:
                self._fetch(request, session)
            except Exception as raised:  # noqa: BLE001  # the transfer classifies them, and it must see bugs too
                error, self.is_waiting = raised, False
                self._drop_connection()
            inbox.put(RequestEnded(request, error))
            del work, request, inbox  # an idle worker keeps no file open
        self._drop_connection()

    def _next(self) -> tuple[Request, Session, "queue.SimpleQueue[Any]"] | None:
        while True:
            try:
                return self._work.get(timeout=self._pool.idle_s)
            except queue.Empty:
                if self._pool.retire(self):
                    return None

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fetch(self, request: Request, session: Session) -> None:
        if self._connection is None or self._connection.session is not session:
            self._drop_connection()
            self._connection = Connection(session)
        position = -1
        while not request.is_over and request.position > position and not self._stop.is_set():
            position = request.position  # a server may send less than the request asks for
            asked_s = time.monotonic()
            answer = self._ask(self._connection, request)
            self.answer_s = time.monotonic() - asked_s
            request.accept(answer.version)
            self._read(answer, request)
            if request.is_whole:
                return

    def _ask(self, connection: Connection, request: Request) -> Answer:
        """Ask the storage, or where it redirects to."""
        for _ in range(MOST_REDIRECTS):
            try:
                return connection.request(request.remote.url, *request.remote_range)
            except MovedError as moved:
                request.follow(moved.location)
                self.origin = origin_of(request.remote.url)
        return connection.request(request.remote.url, *request.remote_range)

    def _read(self, answer: Answer, request: Request) -> None:
        took_s = pacing.READ_S
        while not request.is_over:
            self._read_bytes = pacing.next_read_bytes(self._read_bytes, took_s, self._pool.throttle.bytes_per_second)
            wanted = min(self._read_bytes, request.end - request.position)
            began_s = time.monotonic()
            count = answer.readinto(self._buffer[: max(1, wanted)])
            took_s = time.monotonic() - began_s
            if self._stop.is_set():
                raise LineError("the connection was closed")
            if count == 0:
                if request.part.size_bytes is None:
                    request.cut(request.position)  # the body has ended
                break
            self.is_waiting = True
            request.write(self._buffer[:count])
            self._pool.throttle.pay(count, self._stop)
            self.is_waiting = False
        answer.finish()


class Pool:
    """All workers of the engine, busy or idle, at most `max_workers`; every method may be called from any thread.

    A transfer above its share closes some workers on its next pass. An idle worker keeps its connection for `idle_s`.
    """

    def __init__(self, max_workers: int, idle_s: float) -> None:
        self.throttle = Throttle()
        self.idle_s = idle_s
        self.made_room_s = -math.inf  # when connections were last closed for others
        self._lock = threading.Lock()
        self._max = max_workers
        self._wants: dict[int, int] = {}
        self._idle: list[Worker] = []
        self._count = 0

    def set_max(self, max_workers: int) -> None:
        """Change the limit on workers."""
        self._max = max_workers
        self._close_surplus()

    def share(self, attempt: int, want: int) -> int:
        """Set how many workers the attempt wants now; returns how many it may have."""
        with self._lock:
            self._wants[attempt] = want
            return pacing.fair_shares(self._wants, self._max)[attempt]

    def acquire(self, url: str) -> Worker | None:
        """A worker, with a warm connection to the URL's origin if there is one; None if all are busy."""
        origin = origin_of(url)
        with self._lock:
            warm = next((one for one in reversed(self._idle) if one.origin == origin), None)
            if warm is None and self._count < self._max:
                try:
                    worker = Worker(self)
                except (OSError, RuntimeError):  # no memory, or no thread can be started
                    if not self._count:
                        raise
                else:
                    self._count += 1
                    return worker
            warm = warm or (self._idle[0] if self._idle else None)
            if warm is not None:
                self._idle.remove(warm)
            return warm

    def release(self, worker: Worker) -> None:
        """Return a worker to the pool as idle."""
        with self._lock:
            self._idle.append(worker)
        self._close_surplus()

    def _close_surplus(self) -> None:
        with self._lock:
            surplus = [self._idle.pop(0) for _ in range(min(len(self._idle), self._count - self._max))]
            self._count -= len(surplus)
        for worker in surplus:
            worker.close()

    def make_room(self) -> bool:
        """Close the idle workers; False if none of them had a connection, and none is busy."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
            has_connections = self._count > 0 or any(worker.is_connected for worker in idle)
        for worker in idle:
            worker.close()
        return has_connections

    def discard(self, worker: Worker) -> None:
        """Close a worker that is not idle; the caller has revoked its request, if any."""
        with self._lock:
            self._count -= 1
        worker.close()

    def retire(self, worker: Worker) -> bool:
        """Remove an idle worker whose time is over; False if it is about to get a request."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            self._count -= 1
            return True

    def forget(self, attempt: int) -> None:
        """Remove an attempt that has ended from the division of workers."""
        with self._lock:
            self._wants.pop(attempt, None)


class Pace:
    """How fast a connection is, over its requests without a pause. For the thread of the transfer that uses it."""

    def __init__(self, opened_s: float = 0.0) -> None:
        self.received_bytes = 0  # of all its requests
        self.moved_s = opened_s  # when it last received a byte, or began a request
        self._opened_s = opened_s
        self._warm_s: float | None = None  # when its warm-up ends; None before its first byte
        self._position = 0
        self._samples = deque([(opened_s, 0)])

    def begin(self, position: int, now_s: float) -> None:
        """Record that a request begins at this position."""
        self._position, self.moved_s = position, now_s

    def sample(self, position: int, now_s: float) -> int:
        """Record the position of its request; returns the bytes received since the last call."""
        new, self._position = position - self._position, position
        self.received_bytes += new
        if new > 0:
            self.moved_s = now_s
            if self._warm_s is None:
                self._warm_s = now_s + _WARM_UP_ANSWERS * max(0.0, now_s - self._opened_s - _SHORT_ANSWER_S)
        self._samples.append((now_s, self.received_bytes))
        while now_s - self._samples[0][0] > _RATE_S:
            self._samples.popleft()
        return new

    @property
    def bytes_per_second(self) -> float:
        """Its recent rate; 0 before its first bytes."""
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def rate(self, now_s: float, after_s: float = _RATE_S) -> float | None:
        """Bytes per second; None until it has received bytes for so long, without its warm-up."""
        return None if self._warm_s is None or now_s - self._warm_s < after_s else self.bytes_per_second


class Connections:
    """The requests of one transfer and their workers: how many, what each fetches. Only for the transfer's thread."""

    def __init__(self, attempt: int, files: int, pool: Pool, inbox: "queue.SimpleQueue[Any]", now_s: float) -> None:
        self.received_bytes = 0  # by all of them, including closed ones
        self.moved_s = now_s  # when any of them last received a byte
        self._attempt = attempt
        self._pool = pool
        self._inbox = inbox
        self._busy: dict[Request, Worker] = {}
        self._closing: set[Request] = set()  # those whose connections are closed at their end
        self._silent_times = 1.0  # how many times the usual silence ends a request in its middle
        self._adaptation = pacing.Adaptation(files)
        self._replacement = pacing.Replacement(now_s)
        self.share = self._adaptation.wanted  # how many this transfer may have now

    # How many --------------------------------------------------------------------------------------------------------

    def measure(self, now_s: float) -> None:
        """Sample every connection and decide how many are wanted."""
        for request in self._busy:
            self._sample(request, now_s)
        paces = [one.pace for one in self._busy.values()]
        flowing = sum(now_s - one.moved_s < _FLOWING_S and one.received_bytes > 0 for one in paces)
        self._adaptation.observe(now_s, self.received_bytes, flowing, self._pool.throttle.bytes_per_second is not None)

    def _sample(self, request: Request, now_s: float) -> None:
        if (new := self._busy[request].pace.sample(request.position, now_s)) > 0:
            self.received_bytes += new
            self.moved_s = now_s

    def adjust_share(self, *, has_work: bool) -> None:
        """Ask for the wanted number of workers while there is work; a transfer always tries to get one."""
        self.share = max(1, self._pool.share(self._attempt, self._adaptation.wanted if has_work else 0))

    def are_busy(self, now_s: float) -> bool:
        """Whether any connection fetches a request, or received bytes lately: a server may still count it."""
        return bool(self._busy) or (self.received_bytes > 0 and now_s - self.moved_s < _FLOWING_LATELY_S)

    def others_receive(self, now_s: float) -> bool:
        """Whether any connection received bytes lately."""
        return bool(self._busy) and now_s - self.moved_s < _FLOWING_LATELY_S

    def refused(self, now_s: float) -> None:
        """A server wants fewer connections: keep the number that is busy now, including those without a byte yet."""
        if self._busy:
            self._adaptation.hold(len(self._busy), now_s, pacing.REFUSED_HOLD_S)

    # What each fetches -----------------------------------------------------------------------------------------------

    def assign_all(self, files: Sequence[DownloadFile], session: Session, now_s: float) -> None:
        """Assign requests to workers while there are both."""
        while len(self._busy) < self.share and (request := self._next_request(files, now_s)) is not None:
            worker = self._pool.acquire(request.remote.url)
            if worker is None:
                request.file.end_request(request)
                return
            if worker.origin != origin_of(request.remote.url) or now_s - worker.pace.moved_s > _FLOWING_S:
                worker.pace = Pace(now_s)  # idle time is no slowness, and TCP's slow start begins again
            worker.pace.begin(request.position, now_s)
            self._busy[request] = worker
            worker.assign(request, session, self._inbox)

    def _next_request(self, files: Sequence[DownloadFile], now_s: float) -> Request | None:
        rates = sorted(filter(None, (one.pace.bytes_per_second for one in self._busy.values())))
        rate = rates[len(rates) // 2] if rates else None  # of a typical connection
        answer_s = min((wait_s for one in self._busy.values() if (wait_s := one.answer_s) is not None), default=None)
        missing = [count for file in files if (count := file.pieces.missing_bytes)]
        length_bytes = pacing.request_bytes(rate, sum(missing), self.share, answer_s)
        if len(missing) >= self.share:  # each connection has a file of its own, whose bytes arrive in order
            length_bytes = pacing.LONGEST_REQUEST_BYTES
        # Files without a running request come first: bytes that arrive in order need not be read again for hashing.
        window = pacing.window_bytes(self.share, length_bytes)
        for file in sorted(files, key=lambda one: bool(one.requests)):
            if (request := file.next_request(now_s, length_bytes, window)) is not None:
                return request
        if any(file.will_have_requests for file in files):
            return None
        return self._split(now_s, rate, answer_s)

    def _split(self, now_s: float, rate: float | None, answer_s: float | None) -> Request | None:
        """The tail of the slowest request, when nothing else is left to fetch."""
        running = {
            one: pacing.Running(one.position, one.end, worker.pace.rate(now_s) if one.received_bytes else None)
            for one, worker in self._busy.items()
            if not one.is_whole and one.part.troubles.retry_at_s <= now_s
        }
        choice = pacing.choose_split(running, rate, answer_s)
        return None if choice is None else choice[0].file.take_over(*choice)

    def ended(self, request: Request, now_s: float) -> bool:
        """Record that a worker has ended a request; False if the request was abandoned before."""
        if request not in self._busy:
            return False
        if request.position == request.end:
            self._silent_times = max(1.0, self._silent_times / 2)
        self._end(request, now_s, is_kept=request not in self._closing)
        return True

    def abandon(self, request: Request, now_s: float) -> None:
        """Take a request from its connection, and close that; the bytes it wrote stay."""
        if request in self._busy:
            self._end(request, now_s, is_kept=False)

    def abandon_part(self, part: Part, now_s: float) -> None:
        """Abandon all requests of a part."""
        for request in [one for one in self._busy if one.part is part]:
            self.abandon(request, now_s)

    def _end(self, request: Request, now_s: float, *, is_kept: bool) -> None:
        self._sample(request, now_s)
        request.file.end_request(request)
        self._closing.discard(request)
        end_use = self._pool.release if is_kept else self._pool.discard
        end_use(self._busy.pop(request))

    # Which are replaced ----------------------------------------------------------------------------------------------

    def replace_slow(self, now_s: float) -> None:
        """Close a connection above the share, or one that is far slower than the others.

        One that is not far slower is closed after its request: at once, it would lose the bytes in flight.
        """
        # One that fetches a whole file is never closed, because the file would start again from its first byte.
        staying = {
            one: worker.pace for one, worker in self._busy.items() if not one.is_whole and one not in self._closing
        }
        if staying and len(self._busy) - len(self._closing) > self.share:
            self.abandon(min(staying, key=lambda one: staying[one].bytes_per_second), now_s)
        elif self._pool.throttle.bytes_per_second is None:
            # A connection that waits for its answer is not slow.
            begun = {
                one: pace.rate(now_s, pacing.MEASURED_AFTER_S) for one, pace in staying.items() if one.received_bytes
            }
            if (choice := self._replacement.choose(now_s, begun)) is not None:
                request, is_far_slower = choice
                if is_far_slower:
                    self.abandon(request, now_s)
                else:
                    self._closing.add(request)

    def stalled(self, now_s: float, timeouts: Timeouts) -> list[tuple[Request, float]]:
        """Requests whose connections received nothing for so many seconds, and wait for neither the disk nor the limit.

        The first byte of a request may take longer than later ones: a CDN may first have to fetch the file itself. A
        proxy that scans a file may also send its beginning at once, so while more requests become silent than complete,
        later ones get more time.
        """
        stall_s = max(timeouts.stall_s, min(timeouts.answer_s, timeouts.stall_s * self._silent_times))
        found = []
        for request, worker in self._busy.items():
            if worker.is_waiting:
                continue
            self._sample(request, now_s)  # it may have waited until a moment ago
            limit_s = stall_s if request.received_bytes else timeouts.answer_s
            if now_s - worker.pace.moved_s > limit_s:
                found.append((request, limit_s))
        if stall_s < timeouts.answer_s and any(one.received_bytes for one, _ in found):
            self._silent_times *= 2
        return found

    def close_all(self, now_s: float) -> None:
        """End the transfer's use of workers; the caller has revoked all requests, whose last bytes count."""
        for request, worker in self._busy.items():
            self._sample(request, now_s)
            self._pool.discard(worker)
        self._busy.clear()
        self._pool.forget(self._attempt)
