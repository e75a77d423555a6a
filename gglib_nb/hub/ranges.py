"""A part of a hub's file by a ranged request, such as the first megabytes that hold its GGUF header.

The bytes are served by a storage of another origin, which must not see the token and whose refusals mean something else
than the hub's. Holds no more memory than was asked for.
"""

from functools import partial
from typing import TYPE_CHECKING, Final

from gglib_nb.domain.http_rules import content_range
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.errors import HubUnavailableError
from gglib_nb.hub.transport import Transport

if TYPE_CHECKING:
    from gglib_nb.network.http_library import httpx

_MOST_SKIPPED_BYTES: Final = 64 * 1024**2


def read_range(transport: Transport, route: str, asked: Asked, offset: int, length: int) -> bytes:
    """The bytes from `offset` on: fewer than `length` at the file's end, none beyond it.

    Raises:
        GglibError: As `Transport.persist`.
    """
    reader = _Reader(transport, transport.endpoint + route, asked)
    data = bytearray()
    while len(data) < length and not reader.is_at_end:
        data += transport.persist(partial(reader.read, offset + len(data), length - len(data)), asked)
    return bytes(data)


class _Reader:
    """Asks for ranges of one file; where the server has no ranges, for the whole, of which it reads no more than it has to.

    Attributes:
        is_at_end: The last bytes that were read are the file's last.
    """

    def __init__(self, transport: Transport, url: str, asked: Asked) -> None:
        self.is_at_end = False
        self._transport = transport
        self._url = url
        self._asked = asked
        self._has_ranges = True

    def read(self, offset: int, length: int) -> bytes:
        """Some of these bytes, at least one unless the file ends before; a server may send less than it is asked for."""
        # A compressed answer has no ranges: CloudFront ignores `Range` then.
        headers = {"accept-encoding": "identity"}
        if self._has_ranges:
            headers["range"] = f"bytes={offset}-{offset + length - 1}"
        with self._transport.follow(self._url, headers=headers) as response:
            if response.status_code == 416:  # beyond the end
                self.is_at_end = True
                return b""
            self._check_status(response)
            if response.status_code == 206:
                return self._part(response, offset, length)
            return self._part_of_whole(response, offset, length)

    def _check_status(self, response: "httpx.Response") -> None:
        if self._transport.is_own(str(response.url)):
            self._transport.check_status(response, self._asked)
        elif not response.is_success:
            # Not chained to httpx's error, whose text has the signed URL. A retry resolves anew and gets another one.
            raise HubUnavailableError(f"The Hub's storage refused the Hub's own link ({response.status_code}).")

    def _part(self, response: "httpx.Response", offset: int, length: int) -> bytes:
        found = content_range({"content-range": response.headers.get("content-range", "")})
        if found is None or found.start != offset or found.end is None:
            self._has_ranges = False  # the next try asks for the whole
            raise HubUnavailableError("The Hub's storage sent another part of the file than requested.")
        wanted = min(length, found.end - offset)
        data = self._first_bytes(response, wanted)
        if len(data) < wanted:
            raise HubUnavailableError(f"The Hub's storage sent {len(data)} bytes instead of {wanted}.")
        self.is_at_end = offset + wanted == found.size_bytes
        return data

    def _part_of_whole(self, response: "httpx.Response", offset: int, length: int) -> bytes:
        if offset + length > _MOST_SKIPPED_BYTES:  # the bytes before it would have to be read and held
            raise HubUnavailableError("The Hub's storage sends only whole files, not parts of them.")
        data = self._first_bytes(response, offset + length)
        self.is_at_end = len(data) < offset + length
        return data[offset:]

    def _first_bytes(self, response: "httpx.Response", count: int) -> bytes:
        data = bytearray()
        for chunk in response.iter_bytes():
            self._transport.check_open()
            data += chunk
            if len(data) >= count:
                break
        return bytes(data[:count])
