"""Mirrors and proxies with fewer routes than the Hub: if `hf_hub_download` works with them, listing and reading do too."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pytest
from typing_extensions import override

from gglib_nb.domain.plan import HubFile
from gglib_nb.errors import (
    GatedRepoError,
    HubError,
    HubUnavailableError,
    NetworkError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy

REPO = "demo/small-GGUF"
SHA = "c" * 40
DIGEST = "0123456789abcdef" * 4
NAME = "sub/small-Q4_K_M.gguf"
DATA = bytes(range(256)) * 40
LISTED = (HubFile(NAME, 10_240, DIGEST),)
QUICK = RetryPolicy(tries=2, first_wait_s=0.01, timeout_s=60)
INFO = {"id": REPO, "sha": SHA, "gated": False, "private": False}
TREE = [
    {"type": "directory", "path": "sub", "size": 0},
    {"type": "file", "path": NAME, "size": 10_240, "lfs": {"oid": DIGEST.upper(), "size": 10_240}},
]
SIBLINGS = [{"rfilename": NAME, "size": 10_240, "lfs": {"sha256": DIGEST, "size": 10_240, "pointerSize": 134}}]


@dataclass
class Asked:
    """One request: its path below the endpoint and its parameters."""

    path: str
    params: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class Answer:
    """A mirror's response."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Respond = Callable[[Asked], Answer]
Mirror = Callable[..., HubClient]


@pytest.fixture
def asked() -> list[str]:
    """The requested paths, with the names of their parameters."""
    return []


@pytest.fixture
def mirror(asked: list[str]) -> Iterator[Mirror]:
    """A client of a server that responds as the function says, below a path like Artifactory's."""
    with ExitStack() as stack:

        def make(respond: Respond, token: str | None = None) -> HubClient:
            class Handler(BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_GET(self) -> None:
                    parts = urlsplit(self.path)
                    params = parse_qs(parts.query)
                    headers = {name.lower(): text for name, text in self.headers.items()}
                    assert parts.path.startswith("/api/hub/"), parts.path
                    one = Asked(parts.path.removeprefix("/api/hub"), params, headers)
                    asked.append("?".join(filter(None, (one.path, "&".join(sorted(params))))))
                    answer = respond(one)
                    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                    self.send_response(answer.status)
                    for name, text in {"Content-Length": str(len(body)), **answer.headers}.items():
                        self.send_header(name, text)
                    self.end_headers()
                    self.wfile.write(body)

                @override
                def log_message(self, *_: object) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            return HubClient(f"http://127.0.0.1:{server.server_port}/api/hub/", token, retry_policy=QUICK)

        yield make


def full_hub(one: Asked) -> Answer:
    if "/tree/" in one.path:
        return Answer(body=TREE)
    return Answer(body=INFO | ({"siblings": SIBLINGS} if "blobs" in one.params else {}))


def without(is_missing: Callable[[Asked], bool], status: int = 404, respond: Respond = full_hub) -> Respond:
    """The same hub with fewer routes."""
    return lambda one: Answer(status, {"error": "no"}) if is_missing(one) else respond(one)


MISSING: dict[str, Callable[[Asked], bool]] = {
    "expand": lambda one: "expand" in one.params,
    "revisions": lambda one: one.path.endswith("/revision/main"),
    "expand and revisions": lambda one: "expand" in one.params or one.path.endswith("/revision/main"),
    "trees": lambda one: "/tree/" in one.path,
    "trees and expand": lambda one: "/tree/" in one.path or "expand" in one.params,
    "trees and all revisions": lambda one: "/tree/" in one.path or "/revision/" in one.path or "expand" in one.params,
}


@pytest.mark.parametrize("status", [400, 404, 405, 406, 410, 414, 416, 422, 501])
@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING)
def test_a_repository_is_listed_with_the_available_routes(mirror: Mirror, missing, status: int) -> None:
    listing = mirror(without(missing, status)).list_files(REPO)

    assert (listing.repo_id, listing.commit_sha, listing.files) == (REPO, SHA, LISTED)


@pytest.mark.parametrize("page", [b"<html>nothing here</html>", b"", b"null", b"\xff"])
@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING)
def test_a_route_that_answers_with_anything_else_is_missing(mirror: Mirror, missing, page: bytes) -> None:
    """Servers of web pages answer every address that they do not know with 200 and their own page."""
    listing = mirror(lambda one: Answer(200, page) if missing(one) else full_hub(one)).list_files(REPO)

    assert (listing.repo_id, listing.commit_sha, listing.files) == (REPO, SHA, LISTED)


def test_a_complete_hub_gets_two_requests(mirror: Mirror, asked: list[str]) -> None:
    mirror(full_hub).list_files(REPO)

    assert asked == [f"/api/models/{REPO}/revision/main?expand", f"/api/models/{REPO}/tree/{SHA}?recursive"]


def test_a_mirror_without_sizes_and_digests_can_be_listed(mirror: Mirror) -> None:
    bare = without(MISSING["trees"], 404, lambda _: Answer(body={"sha": SHA, "siblings": [{"rfilename": NAME}]}))

    assert mirror(bare).list_files(REPO).files == (HubFile(NAME, None, None),)


def folder_by_folder(one: Asked) -> Answer:
    if "/tree/" not in one.path:
        return full_hub(one)
    deep = {"type": "directory", "path": "sub/deep odd", "size": 0}
    below = {"": TREE[:1], "/sub": [*TREE[1:], deep], "/sub/deep odd": [{"type": "file", "path": "sub/deep odd/b"}]}
    return Answer(body=below[unquote(one.path).rpartition(SHA)[2]])


def test_a_mirror_that_lists_only_one_folder_at_a_time_is_asked_for_each(mirror: Mirror, asked: list[str]) -> None:
    listed = mirror(folder_by_folder).list_files(REPO).files

    assert listed == (HubFile("sub/deep odd/b", None, None), *LISTED)
    assert len(asked) == 4


def test_a_mirror_whose_folders_never_end_is_given_up(mirror: Mirror, monkeypatch) -> None:
    monkeypatch.setattr("gglib_nb.hub.client._MOST_FOLDERS", 3)

    def endless(one: Asked) -> Answer:
        inside = unquote(one.path).rpartition(SHA)[2].removeprefix("/")
        return Answer(body=[{"type": "directory", "path": f"{inside}/a".removeprefix("/")}])

    with pytest.raises(HubError, match=r"cannot list all folders of \S+\. Set another HF_ENDPOINT\."):
        mirror(lambda one: endless(one) if "/tree/" in one.path else full_hub(one)).list_files(REPO)


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_a_repository_missing_on_every_route_raises_a_gglib_error(mirror: Mirror, status: int) -> None:
    with pytest.raises(HubError):
        mirror(lambda _: Answer(status, {"error": "no"})).list_files(REPO)


def test_the_hubs_error_code_ends_the_listing_at_once(mirror: Mirror, asked: list[str]) -> None:
    refused = Answer(404, {"error": "no"}, {"X-Error-Code": "RepoNotFound"})

    with pytest.raises(RepoNotFoundError):
        mirror(lambda _: refused).list_files(REPO)

    assert len(asked) == 1


def test_a_missing_commit_is_named(mirror: Mirror) -> None:
    gone = Answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})

    with pytest.raises(RevisionNotFoundError, match=f"has no commit {SHA}: its owner may have rewritten its history"):
        mirror(lambda one: gone if "/tree/" in one.path else full_hub(one)).list_files(REPO)


def test_a_mirror_without_trees_does_not_list_the_default_branch_in_place_of_a_commit(mirror: Mirror) -> None:
    gone = Answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})

    with pytest.raises(RevisionNotFoundError):
        mirror(without(MISSING["trees"], 404, lambda one: gone if SHA in one.path else full_hub(one))).list_files(
            REPO, "v1"
        )


def test_an_unknown_revision_costs_one_request_and_that_for_the_names(mirror: Mirror, asked: list[str]) -> None:
    gone = Answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})

    with pytest.raises(RevisionNotFoundError):
        mirror(lambda _: gone).list_files(REPO, "v1")

    assert asked == [f"/api/models/{REPO}/revision/v1?expand", f"/api/models/{REPO}/refs"]


@pytest.mark.parametrize("status", [400, 404, 405, 410, 422, 501])
def test_without_an_access_check_the_download_decides(mirror: Mirror, status: int) -> None:
    client = mirror(without(lambda one: one.path.endswith("/auth-check"), status))

    client.check_access(REPO)


@pytest.mark.parametrize("body", [b"", b"OK", b"<html>", b"[]"])
def test_only_the_status_of_an_access_check_counts(mirror: Mirror, body: bytes) -> None:
    mirror(lambda _: Answer(200, body)).check_access(REPO)


@pytest.mark.parametrize("status", [403, 416])
def test_a_refused_access_check_raises(mirror: Mirror, status: int) -> None:
    gated = Answer(status, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})

    with pytest.raises(GatedRepoError):
        mirror(lambda _: gated, "hf_x").check_access(REPO)


@pytest.mark.parametrize(
    "hub", ["https://huggingface.co", "http://huggingface.co", "https://www.huggingface.co:443", "https://hf.co"]
)
def test_a_redirect_to_the_hub_is_followed_on_the_mirror(mirror: Mirror, asked: list[str], hub: str) -> None:
    def renamed(one: Asked) -> Answer:
        if "/new-name/" in one.path or one.path.endswith("/new-name"):
            return full_hub(one)
        target = one.path.replace("small-GGUF", "new-name")
        return Answer(307, {}, {"Location": f"{hub}{target}?expand=sha"})

    assert mirror(renamed).list_files(REPO).files == LISTED
    assert asked[1] == "/api/models/demo/new-name/revision/main?expand"


@pytest.mark.parametrize("missing", MISSING.values(), ids=MISSING)
def test_a_route_may_be_missing_at_another_address_of_the_mirror(mirror: Mirror, asked: list[str], missing) -> None:
    """Many mirrors redirect from `http` to `https`, or to a host behind them."""
    other = mirror(without(missing)).endpoint

    def moved(one: Asked) -> Answer:
        query = urlencode(one.params, doseq=True)
        return Answer(307, {}, {"Location": f"{other}{one.path}?{query}"})

    client = mirror(moved, "hf_x")

    assert client.list_files(REPO).files == LISTED
    assert len(asked) <= 16  # a refusal is not retried


def test_an_unreachable_address_is_named(mirror: Mirror) -> None:
    client = mirror(lambda _: Answer(302, {}, {"Location": "http://127.0.0.1:9/x"}))

    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9"):
        client.list_files(REPO)


@pytest.mark.parametrize("location", ["https://a:b/x", "file:///etc/passwd", "https://[::1/x", " "])
def test_a_redirect_without_an_address_raises_a_gglib_error(mirror: Mirror, location: str) -> None:
    with pytest.raises(HubError):
        mirror(lambda _: Answer(302, {}, {"Location": location})).list_files(REPO)


@pytest.mark.parametrize("digest", [5, True, ["a"], "*" * 64, None])
def test_an_invalid_digest_is_unknown(mirror: Mirror, digest: object) -> None:
    tree = [{"type": "file", "path": NAME, "size": 1, "lfs": {"oid": digest}}]

    assert (
        mirror(lambda one: Answer(body=tree if "/tree/" in one.path else INFO)).list_files(REPO).files[0].sha256 is None
    )


def test_an_invalid_size_is_unknown(mirror: Mirror) -> None:
    tree = [{"type": "file", "path": NAME, "size": 2**63}, {"type": "file", "path": "b.gguf", "size": True}]

    files = mirror(lambda one: Answer(body=tree if "/tree/" in one.path else INFO)).list_files(REPO).files

    assert {file.size_bytes for file in files} <= {None, 1}


# Parts of files.


def read(client: HubClient, offset: int, length: int) -> bytes:
    return client.read_range(REPO, SHA, NAME, offset, length)


def ranges(one: Asked, *, most: int = 10**6, is_named: bool = True, size: str = str(len(DATA))) -> Answer:
    if "range" not in one.headers:
        return Answer(body=DATA)
    first, last = map(int, one.headers["range"].removeprefix("bytes=").split("-"))
    if first >= len(DATA):
        return Answer(416, b"", {"Content-Range": f"bytes */{len(DATA)}"})
    end = min(last + 1, first + most, len(DATA))
    headers = {"Content-Range": f"bytes {first}-{end - 1}/{size}"} if is_named else {}
    return Answer(206, DATA[first:end], headers)


@pytest.mark.parametrize(("offset", "length"), [(0, 100), (5_000, 300), (10_200, 100), (10_240, 10), (0, 50_000)])
@pytest.mark.parametrize("size", [str(len(DATA)), "*"])
@pytest.mark.parametrize("most", [10**6, 97])
def test_a_range_can_arrive_in_shorter_ranges(mirror: Mirror, offset, length, size, most) -> None:
    client = mirror(lambda one: ranges(one, most=most, size=size))

    assert read(client, offset, length) == DATA[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(0, 100), (5_000, 300), (10_200, 100), (20_000, 5)])
def test_without_content_range_the_whole_file_is_requested(mirror: Mirror, asked, offset, length) -> None:
    client = mirror(lambda one: ranges(one, is_named=False))

    assert read(client, offset, length) == DATA[offset : offset + length]
    assert len(asked) == (1 if offset > len(DATA) else 2)


@pytest.mark.parametrize("offset", [0, 100])
def test_ranges_of_a_compressed_file_are_not_used(mirror: Mirror, asked: list[str], offset) -> None:
    packed = gzip.compress(DATA, mtime=0)

    def respond(one: Asked) -> Answer:
        if "range" not in one.headers:
            return Answer(body=DATA)
        named = f"bytes {offset}-{offset + 99}/{len(packed)}"
        return Answer(206, packed[offset : offset + 100], {"Content-Range": named, "Content-Encoding": "gzip"})

    assert read(mirror(respond), offset, 100) == DATA[offset : offset + 100]
    assert len(asked) == 2


def test_samples_from_the_middle_of_a_large_file_are_read(mirror: Mirror) -> None:
    start = 40 * 10**9
    part = Answer(206, b"x" * 1000, {"Content-Range": f"bytes {start}-{start + 999}/{50 * 10**9}"})

    assert read(mirror(lambda _: part), start, 1000) == b"x" * 1000


def test_beyond_the_end_of_a_file_are_no_bytes_however_far(mirror: Mirror, asked: list[str]) -> None:
    assert read(mirror(ranges), 200_000_000, 100) == b""
    assert len(asked) == 1


def test_an_empty_range_response_raises_an_error(mirror: Mirror) -> None:
    empty = Answer(206, b"", {"Content-Range": f"bytes 0-99/{len(DATA)}"})

    with pytest.raises(HubUnavailableError):
        read(mirror(lambda _: empty), 0, 100)
