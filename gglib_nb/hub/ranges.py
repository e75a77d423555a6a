"""A part of a hub's file by a ranged request, such as the first megabytes that hold its GGUF header.

Redirects are followed by hand, since the bytes lie with a storage of another origin, which must not see the token
and whose refusals mean something else than the hub's. Holds no more memory than was asked for.
"""

from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from gglib_nb.domain.hub_answers import Asked
from gglib_nb.errors import HubUnavailableError
from gglib_nb.hub.transport import Transport

if TYPE_CHECKING:
    from gglib_nb.network.http_library import httpx

_MOST_HOPS: Final = 5
_MOST_SKIPPED_BYTES: Final = 64 * 1024**2


def read_range(transport: Transport, route: str, asked: Asked, offset: int, length: int) -> bytes:
    """The bytes from `offset` on: fewer than `length` at the file's end, none beyond it.

    Raises:
        GglibError: As `Transport.persist`.
    """
    return transport.persist(lambda: _read_once(transport, route, asked, offset, length), asked)


def _read_once(transport: Transport, route: str, asked: Asked, offset: int, length: int) -> bytes:
    url = transport.endpoint + route
    # A compressed answer has no ranges: CloudFront ignores `Range` then.
    headers = {"range": f"bytes={offset}-{offset + length - 1}", "accept-encoding": "identity"}
    for _ in range(_MOST_HOPS):
        with transport.get(url, headers=headers) as response:
            if not response.has_redirect_location:
                return _part(transport, response, offset, length)
            url = urljoin(url, response.headers["location"])
    raise HubUnavailableError(f"{transport.endpoint} redirects in a circle for {asked.path!r}; try again later.")


def _part(transport: Transport, response: "httpx.Response", offset: int, length: int) -> bytes:
    if response.status_code == 416:  # beyond the end
        return b""
    _raise_for_status(transport, response)
    skipped, wanted = _expected(response, offset, length)
    data = bytearray()
    for chunk in response.iter_bytes():
        transport.check_open()
        data += chunk
        if len(data) >= skipped + wanted:
            break
    part = bytes(data[skipped : skipped + wanted])
    if response.status_code == 206 and len(part) < wanted:
        raise HubUnavailableError(f"The Hub's storage sent {len(part)} bytes where it promised {wanted}.")
    return part


def _raise_for_status(transport: Transport, response: "httpx.Response") -> None:
    if transport.is_own(str(response.url)):
        transport.check_status(response)
    elif response.is_error:
        # Not chained to httpx's error, whose text has the signed URL. A retry resolves anew and gets another one.
        raise HubUnavailableError(f"The Hub's storage refused the Hub's own link ({response.status_code}).")


def _expected(response: "httpx.Response", offset: int, length: int) -> tuple[int, int]:
    """How many bytes to skip and how many to take then: a server may ignore the range, or send another one."""
    if response.status_code != 206:
        if offset + length > _MOST_SKIPPED_BYTES:  # the bytes before it would have to be read and held
            raise HubUnavailableError("The Hub's storage sends the whole file only, so no part from its middle.")
        return offset, length
    span, _, total = response.headers.get("content-range", "").partition("/")
    if not span.startswith(f"bytes {offset}-"):
        raise HubUnavailableError("The Hub's storage sent another part of the file than was asked for.")
    return 0, min(length, int(total) - offset) if total.isdecimal() else length
