"""Faulty ways of sending a response: late, cut, stalled, of undeclared length.

Knows responses and one connected socket; no routes, no repositories.
"""

import math
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from threading import Event
from typing import Any, Literal

from gglib_nb.demo.messages import Request, Response
from gglib_nb.demo.server import Line, head

# How often a stalled response checks whether its client has disconnected.
_GONE_CHECK_S = 0.05
# Linger on, for zero seconds: closing sends a reset.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How the bytes of a response are sent, if not normally.

    Attributes:
        delay_s: seconds before the first byte of the head.
        is_hung_up: whether the connection closes without any response.
        framing: `close` sends no length and closes, `chunked` sends no length.
        cut_after: body bytes after which the connection is closed; `None` means never.
        is_reset: whether the cut is a reset instead of an orderly end.
        stall_after: body bytes after which nothing is sent for a while; `None` means never.
        stall_s: seconds the stall lasts; `None` means until `stall_over` is set.
        stall_over: ends the stall early.
    """

    delay_s: float = 0.0
    is_hung_up: bool = False
    framing: Literal["length", "close", "chunked"] = "length"
    cut_after: int | None = None
    is_reset: bool = False
    stall_after: int | None = None
    stall_s: float | None = None
    stall_over: Event = field(default_factory=Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class OddlySent(Response):
    """A response with a special delivery."""

    delivery: Delivery


def delivery_of(response: Response) -> Delivery:
    """How a response is sent."""
    return response.delivery if isinstance(response, OddlySent) else Delivery()


def sent_by(response: Response, delivery: Delivery) -> Response:
    """The same response, sent in this way."""
    return OddlySent(**{one.name: getattr(response, one.name) for one in fields(Response)}, delivery=delivery)


def sent_with(response: Response, **changes: Any) -> Response:
    """The same response with some fields of its `Delivery` changed."""
    return sent_by(response, replace(delivery_of(response), **changes))


def deliver(line: Line, request: Request, response: Response, sent: Callable[[int], None]) -> bool:
    """Send an answer.

    Args:
        line: where to.
        request: what is answered; a HEAD gets no body.
        response: the answer.
        sent: called with the number of body bytes of each slice before it is sent.

    Returns:
        Whether it was sent completely, so that the connection can be reused.

    Raises:
        OSError: the client has disconnected.
    """
    delivery = delivery_of(response)
    if delivery.delay_s:
        time.sleep(delivery.delay_s)
    if delivery.is_hung_up:
        return False
    line.socket.sendall(head(response, _framing(response, delivery)))
    if request.method == "HEAD":
        return True
    return _send_body(line, response, sent)


def _framing(response: Response, delivery: Delivery) -> dict[str, str]:
    match delivery.framing:
        case "length":
            return {"Content-Length": str(response.length)}
        case "chunked":
            return {"Transfer-Encoding": "chunked"}
        case "close":
            return {"Connection": "close"}


def _send_body(line: Line, response: Response, sent: Callable[[int], None]) -> bool:
    delivery, done = delivery_of(response), 0
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
            _refuse_gone(line)  # while it waited: a client that has gone gets no more bytes, and they do not count
        # Counted before sending, so that a client that has read the last byte finds it in the log.
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
    """The offset up to which bytes can be sent without a check: a stall, a cut or the end."""
    stops = [stop for stop in (delivery.stall_after, delivery.cut_after) if stop is not None and stop > done]
    return min([length, *stops])


def _stall(line: Line, delivery: Delivery) -> None:
    """Send nothing until the stall is over.

    Raises:
        ConnectionAbortedError: the client has disconnected.
    """
    until_s = math.inf if delivery.stall_s is None else time.monotonic() + delivery.stall_s
    while (left_s := until_s - time.monotonic()) > 0:
        if delivery.stall_over.wait(min(_GONE_CHECK_S, left_s)):
            return
        _refuse_gone(line)


def _refuse_gone(line: Line) -> None:
    if _is_gone(line.socket):
        raise ConnectionAbortedError("The client has gone.")


def _is_gone(connected: socket.socket) -> bool:
    """Whether the client has closed its end."""
    try:
        # Past `SSLSocket.recv`, which cannot peek.
        is_readable = bool(select.select([connected], [], [], 0)[0])
        return is_readable and socket.socket.recv(connected, 1, socket.MSG_PEEK) == b""
    except OSError:
        return True
