"""From a file's name at a commit to the URL that serves its bytes, its size and its SHA-256.

By hand, hop by hop: the Hub's own redirect carries the SHA-256 in `X-Linked-ETag`, the CDN's `ETag` does
not (it is a Xet hash of the same shape, or an MD5), and a client that follows redirects loses the one
and reads the other. So headers count only while the endpoint's own origin answers. A GET of one byte is
asked for, since HEAD answers differently on some hubs; nothing of the CDN is asked here. Makes one try: whoever
runs the transfer decides on another.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urljoin

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.hub_answers import Asked, Refusal, hub_refusal
from gglib_nb.engine.http.answers import REDIRECT_STATUSES, TRANSIENT_STATUSES, asked_wait_s
from gglib_nb.engine.http.errors import BusyError, WrongAnswerError, line_error
from gglib_nb.engine.http.session import Session
from gglib_nb.errors import HubUnavailableError, RemoteChangedError

if TYPE_CHECKING:
    from gglib_nb.network.http_library import httpx

# A renamed repository takes one, a small file another; more are a circle.
HOP_LIMIT: Final = 6

_SHA256: Final = re.compile(r'^"?([0-9a-f]{64})"?$')
_TOTAL: Final = re.compile(r"^bytes (?:\d+-\d+|\*)/(\d+)$")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a file's bytes are and what is known of them.

    Attributes:
        url: Serves the bytes; signed, so it stands in no log.
        size_bytes: None where nobody says.
        sha256: None where the hub does not state it.
        takes_ranges: False where the answer showed that it sends the whole only.
        has_encoding: The hub compresses whatever is asked for.
    """

    url: str
    size_bytes: int | None
    sha256: str | None
    takes_ranges: bool = True
    has_encoding: bool = False


@dataclass(frozen=True, slots=True)
class FileAddress:
    """Names a file of a repository at a commit on a hub."""

    endpoint: str
    repo_id: str
    commit_sha: str
    path_in_repo: str

    @property
    def asked(self) -> Asked:
        """The same for an error's text."""
        return Asked(self.endpoint, self.repo_id, self.commit_sha, self.path_in_repo)

    @property
    def url(self) -> str:
        """Its URL on the hub."""
        return f"{self.endpoint}/{self.repo_id}/resolve/{quote(self.commit_sha, safe='')}/{quote(self.path_in_repo)}"


def resolve(session: Session, address: FileAddress, planned: PlannedFile) -> Remote:
    """Ask the hub where the file is.

    Raises:
        LineError: No answer came.
        BusyError: The hub asks to come back later.
        WrongAnswerError: It is no answer of a hub.
        HubError: The hub's answer is no.
        RemoteChangedError: It is not the file that was planned.
    """
    url = address.url
    for _ in range(HOP_LIMIT):
        response = _ask(session, url)
        headers = {name.lower(): value for name, value in response.headers.items()}
        if response.status_code not in REDIRECT_STATUSES:
            remote = _served_by_the_hub(session, response, headers, address)
            return _as_planned(remote, planned)
        url = urljoin(url, headers.get("location", ""))
        if not url.startswith(("https://", "http://")):
            raise HubUnavailableError(f"The hub redirects {address.path_in_repo} to no web address; try again later.")
        if not session.is_hub(url):
            linked = _linked(headers)
            return _as_planned(Remote(url, linked.size_bytes, linked.sha256), planned)
    raise HubUnavailableError(f"The hub sends {address.path_in_repo} in circles; try again later.")


def _ask(session: Session, url: str) -> "httpx.Response":
    from gglib_nb.network.http_library import httpx

    client = session.client
    request = client.build_request("GET", url, headers={**session.headers_for(url), "Range": "bytes=0-0"})
    try:
        response = client.send(request, stream=True)
        try:
            # The text of a redirect and the one byte of a range are read, so that the connection stays; a whole is not.
            if response.status_code != 200:
                response.read()
        finally:
            response.close()
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise line_error(error, url) from error
    return response


@dataclass(frozen=True, slots=True)
class _Linked:
    size_bytes: int | None
    sha256: str | None


def _linked(headers: Mapping[str, str]) -> _Linked:
    size = headers.get("x-linked-size", "")
    digest = _SHA256.match(headers.get("x-linked-etag", ""))
    return _Linked(int(size) if size.isdigit() else None, digest[1] if digest else None)


def _served_by_the_hub(
    session: Session, response: "httpx.Response", headers: Mapping[str, str], address: FileAddress
) -> Remote:
    """What an answer of the endpoint's own origin says that is not a redirect."""
    status = response.status_code
    if status not in (200, 206, 416):
        raise _refusal(session, response, headers, address)
    linked = _linked(headers)
    if headers.get("content-type", "").startswith("text/html") and "x-repo-commit" not in headers:
        raise WrongAnswerError("a web page in the place of the file: does the network want a login?")
    digest = _SHA256.match(headers.get("etag", ""))
    has_encoding = headers.get("content-encoding", "identity") != "identity"
    return Remote(
        url=str(response.request.url),
        size_bytes=linked.size_bytes if linked.size_bytes is not None else _size(status, headers),
        sha256=linked.sha256 or (digest[1] if digest else None),
        takes_ranges=status == 206,
        has_encoding=has_encoding,
    )


def _size(status: int, headers: Mapping[str, str]) -> int | None:
    total = _TOTAL.match(headers.get("content-range", ""))
    if total is not None:
        return int(total[1])
    length = headers.get("content-length", "")
    is_plain = status == 200 and "content-encoding" not in headers
    return int(length) if is_plain and length.isdigit() else None


def _as_planned(remote: Remote, planned: PlannedFile) -> Remote:
    is_other_size = None not in (planned.size_bytes, remote.size_bytes) and planned.size_bytes != remote.size_bytes
    is_other_file = None not in (planned.sha256, remote.sha256) and planned.sha256 != remote.sha256
    if is_other_size or is_other_file:
        raise RemoteChangedError(
            f"The hub now serves another {planned.path_in_repo} than it listed; queue the download again."
        )
    return remote


def _refusal(
    session: Session, response: "httpx.Response", headers: Mapping[str, str], address: FileAddress
) -> Exception:
    """The error for an answer that is a no."""
    status = response.status_code
    wait_s = asked_wait_s(status, headers)
    if status in TRANSIENT_STATUSES:
        return BusyError(status, wait_s)
    text = session.without_token(headers.get("x-error-message", ""))
    refusal = Refusal.of(status, headers, text=text, had_token=session.has_token, wait_s=wait_s)
    return hub_refusal(refusal, address.asked, time.time())
