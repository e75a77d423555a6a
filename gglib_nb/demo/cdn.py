"""The CDN origin: signed URLs that expire, and the bytes behind them.

Knows no tokens and no repositories' rules: who holds a valid URL gets the bytes. Its `ETag` has the shape of
a SHA-256 and is none, as at the real CDN.
"""

import hashlib
import hmac
import secrets
import time
from threading import Lock
from urllib.parse import quote, urlencode

from gglib_nb.demo.files import file_response
from gglib_nb.demo.messages import Request, Response, text_response
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
        """Return an absolute URL that gives the file to anyone for the next `ttl_s` seconds."""
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
    """A 403 as storage gives it: XML, without `X-Error-Code`, so that it is no news about the repository."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>'
    )
    return text_response(403, body, "application/xml")
