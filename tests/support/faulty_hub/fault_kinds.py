"""The kinds of faults: each turns a right response into a wrong one that real servers send.

A kind is a small frozen value with one method, so that a test reads as a sentence:
`hub.faults.add(Cut(after_bytes=1000), path="*.gguf", origin="cdn")`. Knows no sockets and no routes.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from threading import Event
from time import time
from typing import Literal
from urllib.parse import urlsplit

from gglib_nb.demo.cdn import access_denied, file_response, range_not_satisfiable, whole_file
from gglib_nb.demo.content import Content, bytes_content, joined_content, noise_content
from gglib_nb.demo.messages import Request, Response, text_response
from gglib_nb.demo.refusals import DISABLED_MESSAGE, bad_token, refusal
from tests.support.faulty_hub.delivery import delivery_of, sent_by, sent_with


@dataclass(frozen=True)
class Cut:
    """The connection ends after the given bytes of the body, orderly or, with `is_reset`, by a reset."""

    after_bytes: int
    is_reset: bool = False

    def apply(self, request: Request, response: Response) -> Response:
        """Cut the answer."""
        return sent_with(response, cut_after=self.after_bytes, is_reset=self.is_reset)


@dataclass(frozen=True)
class HangUp:
    """The connection ends without any response."""

    def apply(self, request: Request, response: Response) -> Response:
        """Answer nothing."""
        return sent_with(response, is_hung_up=True)


@dataclass(frozen=True)
class Stall:
    """After the given bytes nothing is sent for `for_s` seconds, or until `release` if that is `None`."""

    after_bytes: int = 0
    for_s: float | None = None
    over: Event = field(default_factory=Event, compare=False, repr=False)

    def apply(self, request: Request, response: Response) -> Response:
        """Stall the answer."""
        return sent_with(response, stall_after=self.after_bytes, stall_s=self.for_s, stall_over=self.over)

    def release(self) -> None:
        """Release all stalled responses and stall no more."""
        self.over.set()


@dataclass(frozen=True)
class Latency:
    """The response is late."""

    delay_ms: float

    def apply(self, request: Request, response: Response) -> Response:
        """Delay the answer."""
        return sent_with(response, delay_s=self.delay_ms / 1000)


@dataclass(frozen=True)
class WrongBytes:
    """The length is right and the byte at one offset of the file is not."""

    at_byte: int = 0

    def apply(self, request: Request, response: Response) -> Response:
        """Alter the content."""
        return replace(response, content=altered_content(response.content, self.at_byte))


@dataclass(frozen=True)
class ShortBody:
    """The response is complete, with a length that matches its body, but the last bytes of the range are missing."""

    missing_bytes: int = 1

    def apply(self, request: Request, response: Response) -> Response:
        """Shorten the body."""
        return replace(response, length=max(0, response.length - self.missing_bytes))


@dataclass(frozen=True)
class LongBody:
    """The response has more bytes than requested, and a matching length."""

    extra_bytes: int = 1

    def apply(self, request: Request, response: Response) -> Response:
        """Lengthen the body."""
        content = joined_content([response.content, noise_content(self.extra_bytes, "extra")])
        return replace(response, content=content, length=response.length + self.extra_bytes)


@dataclass(frozen=True)
class IgnoreRange:
    """A ranged request gets the whole file with 200."""

    def apply(self, request: Request, response: Response) -> Response:
        """Send the whole file."""
        if response.subject is None or response.status != 206:
            return response
        return sent_by(whole_file(response.subject, response.headers["ETag"]), delivery_of(response))


@dataclass(frozen=True)
class WrongContentRange:
    """A 206 for another range, or of a file of another size, than requested; `Content-Range` declares it."""

    start_shift: int = 0
    total_shift: int = 0

    def apply(self, request: Request, response: Response) -> Response:
        """Shift the range or the total."""
        if response.subject is None or response.status != 206:
            return response
        first = max(0, response.offset + self.start_shift)
        length = min(response.length, response.content.size_bytes - first)
        total = response.subject.file.size_bytes + self.total_shift
        shifted = replace(response, offset=first, length=length)
        return shifted.having(Content_Range=f"bytes {first}-{first + length - 1}/{total}")


@dataclass(frozen=True)
class RangeNotSatisfiable:
    """A 416, with the size in `Content-Range` or without."""

    has_content_range: bool = True

    def apply(self, request: Request, response: Response) -> Response:
        """Refuse the range."""
        if response.subject is None:
            return response
        refused = range_not_satisfiable(response.subject)
        return refused if self.has_content_range else refused.having(Content_Range=None)


@dataclass(frozen=True)
class NoContentLength:
    """The length is not declared: the body is chunked or ends with the connection."""

    framing: Literal["close", "chunked"] = "close"

    def apply(self, request: Request, response: Response) -> Response:
        """Leave the length out."""
        return sent_with(response, framing=self.framing)


@dataclass(frozen=True)
class Gzipped:
    """The whole file is sent compressed and chunked, with a weak `ETag`, ignoring ranges.

    Attributes:
        is_forced: even if the client does not accept gzip.
    """

    is_forced: bool = False

    def apply(self, request: Request, response: Response) -> Response:
        """Compress the answer."""
        is_allowed = self.is_forced or "gzip" in request.headers.get("accept-encoding", "")
        if not is_allowed or response.status not in {200, 206}:
            return response
        data = gzip.compress(b"".join(response.content.slices()))
        packed = replace(
            sent_with(response, framing="chunked"), status=200, content=bytes_content(data), offset=0, length=len(data)
        )
        etag = response.headers.get("ETag")
        return packed.having(Content_Encoding="gzip", ETag=f"W/{etag}" if etag else None, Content_Range=None)


@dataclass(frozen=True)
class Status:
    """Another status, with or without the Hub's error headers."""

    status: int
    error_code: str | None = None
    error_message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def apply(self, request: Request, response: Response) -> Response:
        """Answer with the status."""
        answer = refusal(self.status, self.error_code, self.error_message or f"Status {self.status} by request.")
        answer = answer if self.error_message else answer.having(X_Error_Message=None)
        return _spoilt(answer.having(**self.headers), response)


@dataclass(frozen=True)
class RateLimited:
    """A 429 that states in one of four ways when to retry.

    Attributes:
        seconds: how long to wait.
        stated_by: the Hub's `RateLimit` with nothing left; the same with `Retry-After` although something is left;
            `Retry-After` in seconds or as an HTTP date, without `RateLimit`.
    """

    seconds: int
    stated_by: Literal["ratelimit", "ratelimit-not-exhausted", "retry-after", "http-date", "nothing"] = "ratelimit"

    def apply(self, request: Request, response: Response) -> Response:
        """Refuse for now."""
        policy = '"fixed window";"api";q=500;w=300'
        headers_by_way: dict[str, dict[str, str]] = {
            "ratelimit": {"RateLimit": f'"api";r=0;t={self.seconds}', "RateLimit-Policy": policy},
            "ratelimit-not-exhausted": {"RateLimit": '"api";r=41;t=250', "Retry-After": str(self.seconds)},
            "retry-after": {"Retry-After": str(self.seconds)},
            "http-date": {"Retry-After": formatdate(time() + self.seconds, usegmt=True)},
            "nothing": {},
        }
        answer = refusal(429, None, "Too Many Requests").having(X_Error_Message=None)
        return _spoilt(answer.having(**headers_by_way[self.stated_by]), response)


@dataclass(frozen=True)
class Disabled:
    """The repository was disabled: 403 with the text that clients check."""

    def apply(self, request: Request, response: Response) -> Response:
        """Refuse."""
        return _spoilt(refusal(403, None, DISABLED_MESSAGE), response)


@dataclass(frozen=True)
class BadToken:
    """Every token is invalid."""

    def apply(self, request: Request, response: Response) -> Response:
        """Refuse."""
        return _spoilt(bad_token(), response)


@dataclass(frozen=True)
class ExpiredUrl:
    """The CDN reports that the signature has expired: 403 in XML, without `X-Error-Code`."""

    def apply(self, request: Request, response: Response) -> Response:
        """Refuse."""
        return _spoilt(access_denied("Request has expired"), response)


@dataclass(frozen=True)
class Redirect:
    """A redirect to `location`; `None` means to the same URL, made absolute, as some mirrors do."""

    location: str | None = None
    status: int = 307

    def apply(self, request: Request, response: Response) -> Response:
        """Redirect."""
        location = self.location or f"http://{request.headers.get('host', '')}{request.target}"
        return _spoilt(text_response(self.status, "Redirecting").having(Location=location), response)


@dataclass(frozen=True)
class Direct:
    """The hub itself serves the file with 200 or 206, as other implementations of the Hub do.

    Attributes:
        is_linked: whether `X-Linked-Size` and `X-Linked-ETag` are sent (KohakuHub on HEAD) or not (olah).
        is_bare: whether the `ETag`, which is the SHA-256, has no quotes.
    """

    is_linked: bool = False
    is_bare: bool = True

    def apply(self, request: Request, response: Response) -> Response:
        """Serve the file."""
        if response.subject is None:
            return response
        file = response.subject.file
        etag = file.content.sha256 if self.is_bare else f'"{file.content.sha256}"'
        answer = file_response(request, response.subject, etag).having(X_Repo_Commit=response.subject.commit_sha)
        return answer.having(X_Linked_Size=str(file.size_bytes), X_Linked_ETag=etag) if self.is_linked else answer


@dataclass(frozen=True)
class BareEtag:
    """`ETag` and `X-Linked-ETag` have no quotes."""

    def apply(self, request: Request, response: Response) -> Response:
        """Remove the quotes."""
        bare = {name: value.strip('"') for name, value in response.headers.items() if name.lower().endswith("etag")}
        return response.having(**bare)


@dataclass(frozen=True)
class NoLinkedHeaders:
    """The redirect has neither size nor SHA-256."""

    def apply(self, request: Request, response: Response) -> Response:
        """Remove the headers."""
        return response.having(X_Linked_Size=None, X_Linked_ETag=None)


@dataclass(frozen=True)
class MaskedXetHash:
    """Files in a listing have an `xetHash` of 64 stars, as gated ones do without access."""

    def apply(self, request: Request, response: Response) -> Response:
        """Mask the hashes."""
        entries = json.loads(b"".join(response.content.slices()))
        masked = [entry | {"xetHash": "*" * 64} if "lfs" in entry else entry for entry in entries]
        data = json.dumps(masked).encode()
        return replace(response, content=bytes_content(data), offset=0, length=len(data))


@dataclass(frozen=True)
class ListedSize:
    """A wrong listing: its file sizes differ from those at the storage."""

    shift_bytes: int

    def apply(self, request: Request, response: Response) -> Response:
        """Shift the sizes."""
        entries = json.loads(b"".join(response.content.slices()))
        if not isinstance(entries, list):
            return response  # the Hub's repository information has no sizes
        shifted = [
            entry | {"size": entry["size"] + self.shift_bytes} if entry["type"] == "file" else entry
            for entry in entries
        ]
        data = json.dumps(shifted).encode()
        return replace(response, content=bytes_content(data), offset=0, length=len(data))


@dataclass(frozen=True)
class CaptivePortal:
    """A network that requires a login first: its own page with 200, whatever was requested."""

    def apply(self, request: Request, response: Response) -> Response:
        """Answer with the page."""
        page = "<!DOCTYPE html><title>Welcome</title><p>Please log in to this network.</p>"
        return sent_by(text_response(200, page, "text/html; charset=utf-8"), delivery_of(response))


@dataclass(frozen=True)
class StorageAt:
    """The Hub redirects to storage at another origin, with the same path and signature."""

    origin_url: str

    def apply(self, request: Request, response: Response) -> Response:
        """Change the origin."""
        parts = urlsplit(response.headers.get("Location", ""))
        if not parts.netloc:
            return response
        return response.having(Location=f"{self.origin_url}{parts.path}?{parts.query}")


@dataclass(frozen=True)
class Then:
    """The response is right, but something happens before it is sent, for example a branch moves."""

    action: Callable[[], object]

    def apply(self, request: Request, response: Response) -> Response:
        """Let it happen."""
        self.action()
        return response


def _spoilt(answer: Response, original: Response) -> Response:
    """Another response about the same file, delivered in the same way."""
    return replace(sent_by(answer, delivery_of(original)), subject=original.subject)


def altered_content(original: Content, altered_at: int) -> Content:
    """A copy of another content with all bits of the byte at one offset flipped."""

    def read(offset: int, length: int) -> bytes | memoryview:
        piece = original.read(offset, length)
        if not offset <= altered_at < offset + len(piece):
            return piece
        altered = bytearray(piece)
        altered[altered_at - offset] ^= 0xFF
        return bytes(altered)

    return Content(original.size_bytes, f"{original.identity} altered at {altered_at}", read)
