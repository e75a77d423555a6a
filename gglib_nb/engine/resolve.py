"""From a file's name at a commit to the URL that serves its bytes, its size and its SHA-256.

Headers count only while the endpoint's own origin answers: its redirect carries the SHA-256 in `X-Linked-ETag`; the
CDN's `ETag` is a Xet hash of the same shape, or an MD5. It sends a GET of one byte, because HEAD differs on some hubs,
and no request to the CDN. Makes one attempt: `engine.retry` decides on another.
"""

import socket
from collections.abc import Mapping
from dataclasses import replace

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.http_rules import (
    MOST_REDIRECTS,
    REDIRECT_STATUSES,
    TRANSIENT_STATUSES,
    asked_wait_s,
    content_range,
    contradict,
    host_text,
    is_encoded,
    is_private,
    is_web_page,
    origin_of,
    sha256_of,
    size_in,
    web_address,
)
from gglib_nb.domain.hub_answers import COMMIT, Asked, Refusal, hub_refusal, redirected
from gglib_nb.domain.values import Value
from gglib_nb.engine.http import BusyError, ExchangeError, Session, WrongAnswerError
from gglib_nb.errors import GatedRepoError, GglibError, HubUnavailableError, InvalidTokenError, RemoteChangedError


class Remote(Value, frozen=True):
    """Where a file's bytes are, and the facts known about it."""

    url: str  # serves the bytes; signed, so it appears in no log
    size_bytes: int | None  # None if unknown
    sha256: str | None  # of the content; None if unknown
    takes_ranges: bool = True  # False where the answer showed that it sends the whole only
    # `sha256` is an `ETag` of unknown kind, maybe of the CDN: a match proves the file, a mismatch proves nothing.
    has_guessed_sha256: bool = False
    mirror: str = ""  # host of the mirror that named it; empty: the hub


def resolve(session: Session, asked: Asked, planned: PlannedFile, failures: int = 0) -> Remote:
    """Ask the hub where the file is, or a mirror if the hub cannot provide it; raises `ExchangeError` or `GglibError`.

    A mirror is asked only for a file of a known SHA-256, which its answer must not contradict, and never for a file
    that the hub refuses this user. After each failure of a storage, a different hub or mirror is asked first.
    """
    has_mirrors = planned.sha256 is not None and asked.endpoint == session.endpoint
    endpoints = session.endpoints if has_mirrors else (asked.endpoint,)
    first = failures % len(endpoints)
    errors: dict[str, Exception] = {}
    for endpoint in (*endpoints[first:], *endpoints[:first]):
        try:
            found = _resolve_at(session, replace(asked, endpoint=endpoint), planned)
            mirror = "" if endpoint == asked.endpoint else host_text(origin_of(endpoint))
            return replace(found, mirror=mirror)
        except (GatedRepoError, InvalidTokenError):
            if endpoint == asked.endpoint:
                raise
        except (ExchangeError, GglibError) as error:
            errors[endpoint] = error
    raise errors[asked.endpoint]


def _resolve_at(session: Session, asked: Asked, planned: PlannedFile) -> Remote:
    session.check()
    url, stated = web_address(asked.file_url), dict[str, str]()
    for _ in range(MOST_REDIRECTS):
        status, headers = session.head(url, {"Range": "bytes=0-0"})
        # A redirect to the same origin may state what the next answer does not.
        stated |= {name: text for name, text in headers.items() if name.startswith("x-linked-")}
        headers = {**headers, **stated}
        commits = {headers.get("x-repo-commit", ""), asked.revision or ""}  # on some mirrors a branch
        if planned.sha256 is None and len(commits) > 1 and all(map(COMMIT.fullmatch, commits)):
            raise _changed(planned)
        if status not in REDIRECT_STATUSES:
            return _as_planned(_served_by_the_hub(session, url, status, headers, asked), planned)
        size_bytes, sha256 = size_in(headers.get("x-linked-size")), sha256_of(headers.get("x-linked-etag"))
        has_digest = (planned.sha256 or sha256) is not None
        url = follow(url, headers.get("location", ""), asked, has_digest=has_digest)
        if not session.is_hub(url):
            return _as_planned(Remote(url, size_bytes, sha256), planned)
    raise HubUnavailableError(f"{session.endpoint} redirects {asked.path} too many times. Try again later.")


def follow(url: str, location: str, asked: Asked, *, has_digest: bool) -> str:
    """The address that a redirect names; `HubUnavailableError` if it is none, or none that a hub redirects to.

    With a known digest any source is accepted; without one, a redirect must not go from HTTPS to HTTP, nor from the
    public internet to a private network.
    """
    target = redirected(url, location, asked)
    (scheme, host, _), (scheme_then, host_then, _) = origin_of(url), origin_of(target)
    is_weaker = scheme == "https" and scheme_then == "http"
    if not has_digest and (is_weaker or (host != host_then and _is_inside(host_then) and not _is_inside(host))):
        raise HubUnavailableError(
            f"{host} redirects to {scheme_then}://{host_then} without a SHA-256 to check the file, "
            "so it is not downloaded."
        )
    return target


def _is_inside(host: str) -> bool:
    """Whether a host is on this machine or in a private network; False if its name cannot be looked up here."""
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return is_private(host)
    return any(is_private(address) for address in found)


def _served_by_the_hub(session: Session, url: str, status: int, headers: Mapping[str, str], asked: Asked) -> Remote:
    """The facts in an answer of the endpoint's own origin that is not a redirect."""
    if status in TRANSIENT_STATUSES:
        raise BusyError(status, asked_wait_s(status, headers))
    if status not in (200, 206, 416):
        had_token = "Authorization" in session.headers_for(url)
        raise hub_refusal(Refusal.of(status, headers, token=session.token, had_token=had_token), asked)
    if is_web_page(headers) and "x-repo-commit" not in headers:
        host = host_text(origin_of(session.endpoint))
        raise WrongAnswerError(
            f"{host} sent a web page instead of the file. Check whether the network asks for a login."
        )
    linked, etag = sha256_of(headers.get("x-linked-etag")), sha256_of(headers.get("etag"))
    if etag == sha256_of(headers.get("x-xet-hash")):
        etag = None
    size_bytes = size_in(headers.get("x-linked-size"))
    if size_bytes is None and (found := content_range(headers)) is not None:
        size_bytes = found.size_bytes
    elif size_bytes is None and status == 200 and not is_encoded(headers):
        size_bytes = size_in(headers.get("content-length"))
    return Remote(url, size_bytes, linked or etag, status == 206, linked is None and etag is not None)


def _as_planned(remote: Remote, planned: PlannedFile) -> Remote:
    """The remote file, if it can be the planned one. A guessed digest never contradicts a known one."""
    is_other_file = contradict(planned.sha256, remote.sha256) and not remote.has_guessed_sha256
    if is_other_file or contradict(planned.size_bytes, remote.size_bytes):
        raise _changed(planned)
    return replace(remote, sha256=planned.sha256, has_guessed_sha256=False) if planned.sha256 else remote


def _changed(planned: PlannedFile) -> RemoteChangedError:
    return RemoteChangedError(f"{planned.path_in_repo} has changed on the hub since it was listed. Download it again.")
