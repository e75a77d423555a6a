"""The CDN origin: signed URLs that expire, and the bytes of files behind them, whole or a range.

Knows no tokens and no access rules: any client with a valid URL gets the bytes. Its `ETag` looks like
a SHA-256 but is not one, as at the real CDN.
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import replace
from threading import Lock
from urllib.parse import quote, urlencode

from gglib_nb.demo.messages import ByteRange, Request, Response, text_response
from gglib_nb.demo.repositories import Located


class Cdn:
    """Signs URLs for the hub and answers them.

    Args:
        ttl_s: seconds for which a signed URL works.
    """

    def __init__(self, ttl_s: float) -> None:
        self.origin_url = ""
        self.ttl_s = ttl_s
        self._secret = secrets.token_bytes(16)
        self._lock = Lock()
        self._subjects: dict[str, Located] = {}

    def sign(self, subject: Located) -> str:
        """Return an absolute URL that gives the file to any client for the next `ttl_s` seconds."""
        key = hashlib.sha256(f"{subject.repo_id} {subject.commit_sha} {subject.file.path}".encode()).hexdigest()
        path = f"/xet-bridge-us/{hashlib.sha256(subject.repo_id.encode()).hexdigest()[:24]}/{key}"
        with self._lock:
            self._subjects[path] = subject
        expires = f"{time.time() + self.ttl_s:.3f}"
        name = quote(subject.file.path.rpartition("/")[2])
        query = {
            "response-content-disposition": f"inline; filename*=UTF-8''{name};",
            "Expires": expires,
            "Signature": self._signature(path, expires),
            "Key-Pair-Id": "DEMO",
        }
        return f"{self.origin_url}{path}?{urlencode(query)}"

    def expire_all(self) -> None:
        """Make every URL signed so far invalid."""
        self._secret = secrets.token_bytes(16)

    def respond(self, request: Request) -> Response:
        """Answer a request at the CDN's origin."""
        subject = self._subjects.get(request.path)
        if subject is None or request.method not in {"GET", "HEAD"}:
            return access_denied("Access Denied")
        if not self._is_valid(request):
            return access_denied("Request has expired")
        return file_response(request, subject, f'"{subject.file.content.xet_hash}"')

    def _is_valid(self, request: Request) -> bool:
        query = request.query
        expires, signature = query.get("Expires", ["0"])[0], query.get("Signature", [""])[0]
        return signature == self._signature(request.path, expires) and float(expires) > time.time()

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path} {expires}".encode(), hashlib.sha256).hexdigest()


def access_denied(message: str) -> Response:
    """A 403 as a storage sends it: XML, without `X-Error-Code`, so that it says nothing about the repository."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>'
    )
    return text_response(403, body, "application/xml")


def file_response(request: Request, subject: Located, etag: str) -> Response:
    """Answer a request for a file with 200, 206 or 416, depending on its `Range` header; `etag` has its quotes."""
    size_bytes = subject.file.size_bytes
    if request.range is None:
        return whole_file(subject, etag)
    span = _resolve_range(request.range, size_bytes)
    if span is None:
        return range_not_satisfiable(subject)
    first, length = span
    response = _with_bytes(206, subject, first, length, etag)
    return response.having(Content_Range=f"bytes {first}-{first + length - 1}/{size_bytes}")


def whole_file(subject: Located, etag: str) -> Response:
    """A 200 with the whole file."""
    return _with_bytes(200, subject, 0, subject.file.size_bytes, etag)


def range_not_satisfiable(subject: Located) -> Response:
    """A 416 that states the size."""
    body = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InvalidRange</Code></Error>'
    response = text_response(416, body, "application/xml").having(Content_Range=f"bytes */{subject.file.size_bytes}")
    return replace(response, subject=subject)


def _resolve_range(wanted: ByteRange, size_bytes: int) -> tuple[int, int] | None:
    """Turn a requested range into (offset, length); `None` if it contains no byte of the file."""
    first, last = wanted
    if first is None:
        first, last = max(0, size_bytes - (last or 0)), size_bytes - 1
    last = size_bytes - 1 if last is None else min(last, size_bytes - 1)
    return (first, last - first + 1) if first <= last else None


def _with_bytes(status: int, subject: Located, offset: int, length: int, etag: str) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": etag},
        content=subject.file.content,
        offset=offset,
        length=length,
        subject=subject,
    )
