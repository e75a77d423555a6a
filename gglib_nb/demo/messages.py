"""HTTP requests and responses as values, and a reader of requests from a stream.

The routes turn a `Request` into a `Response`, and the server sends it. Nothing here touches a socket or knows a route.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import BinaryIO, Self
from urllib.parse import parse_qs, unquote, urlsplit

from gglib_nb.demo.content import Content, bytes_content
from gglib_nb.demo.repositories import Located

ByteRange = tuple[int | None, int | None]

_LONGEST_LINE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as received.

    Attributes:
        origin: the name of the origin it was sent to, `hub` or `cdn`.
        target: path and query exactly as sent, percent-encoded.
        headers: names in lower case.
    """

    origin: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    connection_id: int = 0

    @property
    def path(self) -> str:
        """The path without the query, still percent-encoded."""
        return urlsplit(self.target).path

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments, decoded one by one: an encoded slash stays inside its segment."""
        return tuple(unquote(segment) for segment in self.path.strip("/").split("/"))

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's fields; `name[]` counts as `name`."""
        fields: dict[str, list[str]] = {}
        for name, values in parse_qs(urlsplit(self.target).query, keep_blank_values=True).items():
            fields.setdefault(name.removesuffix("[]"), []).extend(values)
        return fields

    @property
    def token(self) -> str | None:
        """The bearer token; `None` if there is none."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token if kind.lower() == "bearer" and token else None

    @property
    def range(self) -> ByteRange | None:
        """The one requested range as (first, last), `(None, n)` for the last n bytes; `None` if there is none."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range", "").strip())
        if match is None or match[0] == "bytes=-":
            return None
        first, last = (int(number) if number else None for number in match.groups())
        return first, last


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One answer: status, headers, and `length` bytes of `content` from `offset`.

    Attributes:
        subject: the repository file that the answer is about; `None` if there is none.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: Content = field(default_factory=lambda: bytes_content(b""))
    offset: int = 0
    length: int = 0
    subject: Located | None = None

    @property
    def reason(self) -> str:
        """The phrase of the status line."""
        return HTTPStatus(self.status).phrase

    def having(self, **headers: str | None) -> Self:
        """The same response with headers set (`X_Name="v"`) or, by `None`, removed."""
        changed = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in changed}
        new = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        return replace(self, headers=kept | new)


def text_response(status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> Response:
    """A response whose body is `text`."""
    data = text.encode()
    return Response(
        status=status, headers={"Content-Type": content_type}, content=bytes_content(data), length=len(data)
    )


def json_response(value: object, status: int = 200) -> Response:
    """A response whose body is `value` as JSON."""
    return text_response(status, json.dumps(value), "application/json; charset=utf-8")


def read_request(stream: BinaryIO, origin: str, connection_id: int) -> Request | None:
    """Read the next request of a connection; `None` if the peer has closed it or does not speak HTTP/1."""
    words = stream.readline(_LONGEST_LINE).decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    headers: dict[str, str] = {}
    while (line := stream.readline(_LONGEST_LINE).decode("latin-1").rstrip("\r\n")) != "":
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "")
    body = stream.read(int(length)) if length.isascii() and length.isdigit() else b""
    return Request(
        origin=origin, method=words[0], target=words[1], headers=headers, body=body, connection_id=connection_id
    )
