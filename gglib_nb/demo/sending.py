"""How an answer leaves: head, body in slices at the speed allowed, and the ways in which that can go wrong.

Knows responses and one connected socket; no routes, no repositories.
"""

import math
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from gglib_nb.demo.content import SLICE_BYTES
from gglib_nb.demo.messages import Delivery, Request, Response
from gglib_nb.demo.throttle import Throttle

# A stalled answer looks this often whether its client has gone.
_GONE_CHECK_S = 0.05
# Linger on, for zero seconds: closing sends a reset.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Line:
    """A connection with the limits on its speed: its own and the one it shares with all others."""

    socket: socket.socket
    own_limit: Throttle
    shared_limit: Throttle

    def slice_bytes(self) -> int:
        """How many bytes to send at a time for an even flow."""
        return min(self.own_limit.slice_bytes(SLICE_BYTES), self.shared_limit.slice_bytes(SLICE_BYTES))

    def wait_for(self, size_bytes: int) -> None:
        """Wait until the limits let so many bytes pass."""
        self.own_limit.take(size_bytes)
        self.shared_limit.take(size_bytes)

    def is_gone(self) -> bool:
        """Whether the client has closed its end."""
        try:
            # Past `SSLSocket.recv`, which cannot peek.
            is_readable = bool(select.select([self.socket], [], [], 0)[0])
            return is_readable and socket.socket.recv(self.socket, 1, socket.MSG_PEEK) == b""
        except OSError:
            return True


def send(line: Line, request: Request, response: Response, sent: Callable[[int], None]) -> bool:
    """Send an answer.

    Args:
        line: where to.
        request: what is answered; a HEAD gets no body.
        response: the answer.
        sent: told the number of body bytes of each slice as it sets out.

    Returns:
        Whether it was sent to its end, so that the connection can be used again.

    Raises:
        OSError: the client has gone.
    """
    delivery = response.delivery
    if delivery.delay_s:
        time.sleep(delivery.delay_s)
    if delivery.is_hung_up:
        return False
    line.socket.sendall(_head(response))
    if request.method == "HEAD":
        return True
    return _send_body(line, response, sent)


def _head(response: Response) -> bytes:
    headers = {"Date": formatdate(usegmt=True), **response.headers}
    match response.delivery.framing:
        case "length":
            headers.setdefault("Content-Length", str(response.length))
        case "chunked":
            headers["Transfer-Encoding"] = "chunked"
        case "close":
            headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _send_body(line: Line, response: Response, sent: Callable[[int], None]) -> bool:
    delivery, done = response.delivery, 0
    is_limited = response.subject is not None
    while done < response.length:
        if done == delivery.stall_after:
            _stall(line, delivery)
        if done == delivery.cut_after:
            break
        wanted = min(line.slice_bytes(), _next_stop(delivery, done, response.length) - done)
        piece = response.content.read(response.offset + done, wanted)
        if not piece:
            return False
        if is_limited:
            line.wait_for(len(piece))
        # Counted before, so that who has read the last byte finds it in the log.
        sent(len(piece))
        _send_piece(line.socket, piece, delivery)
        done += len(piece)
    return _finish(line.socket, delivery, is_whole=done == response.length)


def _send_piece(connected: socket.socket, piece: bytes | memoryview, delivery: Delivery) -> None:
    if delivery.framing == "chunked":
        connected.sendall(b"%x\r\n" % len(piece))
        connected.sendall(piece)
        connected.sendall(b"\r\n")
    else:
        connected.sendall(piece)


def _finish(connected: socket.socket, delivery: Delivery, *, is_whole: bool) -> bool:
    if is_whole and delivery.framing == "chunked":
        connected.sendall(b"0\r\n\r\n")
    if not is_whole and delivery.is_reset:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    return is_whole


def _next_stop(delivery: Delivery, done: int, length: int) -> int:
    """The place up to which bytes can be sent without looking: a stall, a cut or the end."""
    stops = [stop for stop in (delivery.stall_after, delivery.cut_after) if stop is not None and stop > done]
    return min([length, *stops])


def _stall(line: Line, delivery: Delivery) -> None:
    """Send nothing until the stall is over.

    Raises:
        ConnectionAbortedError: the client has gone meanwhile.
    """
    until_s = math.inf if delivery.stall_s is None else time.monotonic() + delivery.stall_s
    while (left_s := until_s - time.monotonic()) > 0:
        if delivery.stall_over.wait(min(_GONE_CHECK_S, left_s)):
            return
        if line.is_gone():
            raise ConnectionAbortedError("The client has gone.")
