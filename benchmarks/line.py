"""A line with limits: a TCP proxy with rates and a round-trip time, in a separate process.

Bytes pass unread, so TLS stays between the downloader and the server. Of each connection:

* its own rate, equal for all or drawn for each (an edge lottery, deterministic for a seed);
* a rate shared with all others;
* a round-trip time: bytes arrive half of it later, the first ones one more later (TCP's handshake), and at most a
  window is in transit, which starts at ten segments, grows by acknowledged bytes (slow start) and ends at 4 MiB.

nginx's own `limit_rate` is not a substitute: it counts each *request* separately and starts with one second of data at
once, so that ranged requests on a kept connection run unlimited. `tc netem` needs root and a kernel that has it.
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

MEGABYTE = 1_000_000
_FIRST_WINDOW_BYTES = 10 * 1460
_LARGEST_WINDOW_BYTES = 4 * 1024**2
_QUEUE_BYTES = 256 * 1024  # without a round trip: enough that a late wake-up leaves no gap
_LARGEST_PIECE_BYTES = 256 * 1024
_SYSTEM_BUFFER_BYTES = 256 * 1024  # the limit of our data in system buffers, which would otherwise grow to megabytes
_PIECE_S = 0.005


@dataclass
class Pace:
    """A rate: bytes pass one after another. `None` lets all pass at once."""

    bytes_per_second: float | None
    free_at_s: float = 0.0

    def pass_at(self, now_s: float, size_bytes: int) -> float:
        """The time when the given bytes have passed."""
        if self.bytes_per_second is None:
            return now_s
        self.free_at_s = max(self.free_at_s, now_s) + size_bytes / self.bytes_per_second
        return self.free_at_s

    def piece_bytes(self) -> int:
        """How much to take at a time for an even flow."""
        if self.bytes_per_second is None:
            return _LARGEST_PIECE_BYTES
        return max(16 * 1024, min(_LARGEST_PIECE_BYTES, int(self.bytes_per_second * _PIECE_S)))


@dataclass
class Shape:
    """What the line does to connections.

    Attributes:
        round_trip_s: the round-trip time in seconds.
        shared: the rate of all connections together.
        fast, slow: rates of a connection in bytes per second; `None` is unlimited.
        fast_share: the probability of `fast`.
        passed_bytes: bytes sent to downloaders so far.
    """

    round_trip_s: float
    shared: Pace
    fast: float | None
    slow: float | None
    fast_share: float
    passed_bytes: int = 0
    source: random.Random = field(default_factory=lambda: random.Random(0))

    def draw(self) -> Pace:
        """The rate of a new connection."""
        return Pace(self.fast if self.source.random() < self.fast_share else self.slow)


class Direction:
    """The bytes of one connection in transit in one direction."""

    def __init__(self, shape: Shape, paces: list[Pace], not_before_s: float) -> None:
        self._delay_s = shape.round_trip_s / 2
        self._paces = paces
        self._not_before_s = not_before_s
        self._window_bytes = _FIRST_WINDOW_BYTES if self._delay_s else _QUEUE_BYTES
        self._under_way_bytes = 0
        self._queue: deque[tuple[float, bytes]] = deque()
        self._changed = asyncio.Event()
        self._piece_bytes = min((pace.piece_bytes() for pace in paces), default=_LARGEST_PIECE_BYTES)

    async def take(self, origin: socket.socket) -> None:
        """Read while the window has room, until the stream ends."""
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            while (room := self._window_bytes - self._under_way_bytes) <= 0:
                await self._change()
            data = await loop.sock_recv(origin, min(room, self._piece_bytes))
            passed_s = loop.time()
            for pace in self._paces:
                passed_s = pace.pass_at(passed_s, len(data))
            self._under_way_bytes += len(data)
            self._queue.append((max(passed_s, self._not_before_s) + self._delay_s, data))
            self._changed.set()

    async def give(self, target: socket.socket, shape: Shape | None) -> None:
        """Write each piece when it is due; `shape` counts them."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                await self._change()
            due_s, data = self._queue.popleft()
            if (wait_s := due_s - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(target, data)
            if shape is not None:
                shape.passed_bytes += len(data)
            loop.call_later(self._delay_s, self._acknowledge, len(data))

    def _acknowledge(self, size_bytes: int) -> None:
        self._under_way_bytes -= size_bytes
        if self._delay_s:
            self._window_bytes = min(_LARGEST_WINDOW_BYTES, self._window_bytes + size_bytes)
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


async def _carry(shape: Shape, near: socket.socket, address: tuple[str, int]) -> None:
    """One connection from its accept to its end."""
    loop = asyncio.get_running_loop()
    arrived_s = loop.time() + shape.round_trip_s
    far = socket.socket()
    far.setblocking(False)
    with near, far, contextlib.suppress(OSError, ExceptionGroup):
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SYSTEM_BUFFER_BYTES)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SYSTEM_BUFFER_BYTES)
        await loop.sock_connect(far, address)
        up, down = Direction(shape, [], arrived_s), Direction(shape, [shape.draw(), shape.shared], 0.0)
        async with asyncio.TaskGroup() as tasks:
            for work in (up.take(near), up.give(far, None), down.take(far), down.give(near, shape)):
                tasks.create_task(work)


async def _serve(shape: Shape, address: tuple[str, int]) -> None:
    """Accept until standard input closes; each line of it is `seed N` or a request for the count."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    carried: set[asyncio.Task[None]] = set()

    async def accept() -> None:
        while True:
            near, _ = await loop.sock_accept(listener)
            near.setblocking(False)
            task = loop.create_task(_carry(shape, near, address))
            carried.add(task)
            task.add_done_callback(carried.discard)

    accepting = loop.create_task(accept())
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while command := await commands.readline():
        if command.startswith(b"seed"):
            shape.source.seed(int(command.split()[1]))
        print(json.dumps({"passed_bytes": shape.passed_bytes, "at_s": loop.time()}), flush=True)
    accepting.cancel()


def main() -> None:
    """The process: prints its port, then an answer to each line of its input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, help="of the server on loopback")
    parser.add_argument("--round-trip", type=float, default=0.0, metavar="S")
    parser.add_argument("--shared", type=float, metavar="MB/s")
    parser.add_argument("--fast", type=float, metavar="MB/s")
    parser.add_argument("--slow", type=float, metavar="MB/s")
    parser.add_argument("--fast-share", type=float, default=1.0)
    options = parser.parse_args()
    shared, fast, slow = (value and value * MEGABYTE for value in (options.shared, options.fast, options.slow))
    shape = Shape(options.round_trip, Pace(shared), fast, slow, options.fast_share)
    asyncio.run(_serve(shape, ("127.0.0.1", options.port)))


@dataclass
class Line:
    """Starts such a process as a context manager.

    Attributes:
        to_port: port of the server on loopback.
        round_trip_s: the round-trip time in seconds.
        shared: the rate of all connections together, like the others in MB/s; `None` is unlimited.
        fast, slow: rates of a connection.
        fast_share: the probability of `fast`.
        port: where it listens.
    """

    to_port: int
    round_trip_s: float = 0.0
    shared: float | None = None
    fast: float | None = None
    slow: float | None = None
    fast_share: float = 1.0
    port: int = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.line", str(self.to_port)]
        command += ["--round-trip", str(self.round_trip_s), "--fast-share", str(self.fast_share)]
        for name in ("shared", "fast", "slow"):
            if (value := getattr(self, name)) is not None:
                command += [f"--{name}", str(value)]
        root = Path(__file__).parents[1]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=root
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)

    def draw_from(self, seed: int) -> None:
        """Use a seed for connections from now on."""
        self._ask(f"seed {seed}")

    def passed(self) -> tuple[float, int]:
        """A time in seconds, and the bytes sent to downloaders until then."""
        answer = self._ask("count")
        return answer["at_s"], answer["passed_bytes"]

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        return json.loads(self._process.stdout.readline())


if __name__ == "__main__":
    main()
