"""Connects to a host that has several addresses: the next one is tried before the present one has failed.

A host's IPv6 address may be unreachable while its IPv4 address works. As in RFC 8305 ("happy eyeballs"), families take
turns, each attempt has a quarter of a second before the next one begins, and the winning family is first the next time.
"""

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from itertools import chain, zip_longest
from typing import Final

# RFC 8305, section 8: "Connection Attempt Delay".
_NEXT_TRY_S: Final = 0.25

_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]

_won: dict[tuple[str, int], socket.AddressFamily] = {}


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """A TCP connection to the address of the host that answers first; the timeout does not limit the name lookup.

    Raises `TimeoutError`, or `OSError`: the name is unknown, or every address refused.
    """
    winner = _first_connected(_addresses(host, port), time.monotonic() + timeout_s)
    _won[host, port] = winner.family
    winner.settimeout(timeout_s)
    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return winner


def working_family(host: str, port: int, timeout_s: float) -> socket.AddressFamily | None:
    """The address family of a host that answers, for clients that connect by themselves; None if there is no choice.

    Connects once to find out, if the host has addresses of several families and none is known. Raises as `connect`.
    """
    if (known := _won.get((host, port))) is not None:
        return known
    if len({family for family, _ in _addresses(host, port)}) < 2:
        return None
    with connect(host, port, timeout_s) as found:
        return socket.AddressFamily(found.family)


def forget(host: str, port: int) -> None:
    """Forget which family worked: a connection to this port of the host failed."""
    _won.pop((host, port), None)


def _addresses(host: str, port: int) -> list[_Address]:
    """Families take turns, the last winner first; else in the order of the system, which knows its routes."""
    found: list[_Address] = [(one[0], one[4]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not found:
        raise OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
    first = _won.get((host, port), found[0][0])
    mine, others = ([one for one in found if (one[0] == first) is is_mine] for is_mine in (True, False))
    return [one for one in chain.from_iterable(zip_longest(mine, others)) if one is not None]


def _first_connected(addresses: Iterable[_Address], deadline_s: float) -> socket.socket:
    waiting, errors = deque(addresses), list[OSError]()
    with ExitStack() as losers, selectors.DefaultSelector() as pending:
        while waiting or pending.get_map():
            if waiting:
                family, address = waiting.popleft()
                try:
                    attempt = losers.enter_context(socket.socket(family, socket.SOCK_STREAM))
                    attempt.setblocking(False)
                    with suppress(BlockingIOError):
                        attempt.connect(address)
                except OSError as error:  # refused at once, or this system does not support the family
                    errors.append(error)
                    continue
                pending.register(attempt, selectors.EVENT_WRITE)
            now_s = time.monotonic()
            if now_s >= deadline_s:
                raise TimeoutError("timed out")
            for key, _ in pending.select(min(deadline_s - now_s, _NEXT_TRY_S) if waiting else deadline_s - now_s):
                one: socket.socket = key.fileobj  # type: ignore[assignment]  # nothing else was registered
                pending.unregister(one)
                if (code := one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:
                    return one.dup()  # the original is closed with the losers
                errors.append(OSError(code, os.strerror(code)))
    raise errors[0]
