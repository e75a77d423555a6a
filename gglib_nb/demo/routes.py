"""The hub origin: maps each request to its answer.

The answers follow the real Hub's protocol: 302 to the CDN for LFS files with the
SHA-256 in `X-Linked-ETag`, 307 to a cache for small ones, `Link` for further pages. Knows no sockets.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote, urlencode

from gglib_nb.demo import listing
from gglib_nb.demo.cdn import Cdn, file_response
from gglib_nb.demo.messages import Request, Response, json_response, text_response
from gglib_nb.demo.refusals import (
    Access,
    RefusedError,
    entry_not_found,
    refusal,
    repository_not_found,
    revision_not_found,
)
from gglib_nb.demo.repositories import Commit, DemoRepository, Located

_Row = TypeVar("_Row")
_EXPANDED_PAGE_SIZE = 50


class Hub:
    """Answers requests at the hub's origin.

    Args:
        cdn: serves the bytes of LFS files.
        access: the access rules.
        page_size: entries per page of a listing; with `expand` it is 50 at most, as at the Hub.
    """

    def __init__(self, cdn: Cdn, access: Access, page_size: int) -> None:
        self.origin_url = ""
        self._cdn = cdn
        self._access = access
        self._page_size = page_size
        self.repositories: dict[str, DemoRepository] = {}

    def add(self, repository: DemoRepository) -> None:
        """Serve another repository, replacing one of the same id."""
        self.repositories = {**self.repositories, repository.repo_id: repository}

    def respond(self, request: Request) -> Response:
        """Answer a request."""
        try:
            self._access.check_token(request)
            response = self._route(request)
        except RefusedError as refused:
            response = refused.response
        except ValueError as error:
            response = refusal(400, None, f"Bad request: {error}")
        return response.having(X_Request_Id=f"Root=1-{secrets.token_hex(12)}")

    def _route(self, request: Request) -> Response:
        match request.segments:
            case ("api", "whoami-v2"):
                return self._whoami(request)
            case ("",):
                return text_response(200, "\n".join(listing.page_lines(self.repositories.values())))
            case ("api", "models"):
                return self._search(request)
            case ("api", "models", owner, name, *rest):
                return self._renamed(request, f"{owner}/{name}") or self._model(request, f"{owner}/{name}", rest)
            case ("api", "resolve-cache", "models", owner, name, sha, *path):
                repository, commit = self._visible(request, f"{owner}/{name}", sha)
                return self._small_file(request, self._located(repository, commit, "/".join(path)))
            case (owner, name):
                repository, _ = self._visible(request, f"{owner}/{name}", "main")
                return text_response(200, "\n".join(listing.page_lines([repository])))
            case (owner, name, "resolve", revision, *path):
                moved = self._renamed(request, f"{owner}/{name}")
                return moved or self._resolve(request, f"{owner}/{name}", revision, "/".join(path))
            case _:
                return refusal(404, None, "Sorry, we can't find the page you are looking for.")

    def _whoami(self, request: Request) -> Response:
        if request.token is None:
            return refusal(401, None, "Invalid username or password.")
        access_token = {"displayName": "demo", "role": "read"}
        auth = {"type": "access_token", "accessToken": access_token}
        return json_response({"type": "user", "id": "demo", "name": "demo-user", "orgs": [], "auth": auth})

    def _search(self, request: Request) -> Response:
        query = request.query
        found = [
            repository
            for repository in self.repositories.values()
            if self._access.can_list(request, repository) and listing.is_match(repository, query)
        ]
        field = query.get("sort", ["trendingScore"])[0]
        found.sort(key=lambda repository: listing.sort_key(repository, field), reverse=query.get("direction") != ["1"])
        full, expand = query.get("full", ["false"])[0].lower() == "true", query.get("expand", [])
        page, headers = _page_of(request, found, self._page_size, self.origin_url)
        rows = [listing.model_row(found, self._commit(found, "main"), full=full, expand=expand) for found in page]
        return json_response(rows).having(**headers)

    def _model(self, request: Request, repo_id: str, rest: Sequence[str]) -> Response:
        match rest:
            case ["refs"]:
                return json_response(listing.references(self._visible(request, repo_id, "main")[0]))
            case ["auth-check"]:
                self._access.check_bytes(request, self._visible(request, repo_id, "main")[0])
                return json_response({})
            case [] | ["revision", _]:
                return self._info(request, *self._visible(request, repo_id, rest[1] if rest else "main"))
            case ["tree", revision, *folder]:
                return self._tree(request, *self._visible(request, repo_id, revision), "/".join(folder))
            case _:
                return refusal(404, None, "Not Found")

    def _info(self, request: Request, repository: DemoRepository, commit: Commit) -> Response:
        with_blobs = request.query.get("blobs", ["false"])[0].lower() == "true"
        expand = request.query.get("expand", [])
        return json_response(listing.model_info(repository, commit, with_blobs=with_blobs, expand=expand))

    def _tree(self, request: Request, repository: DemoRepository, commit: Commit, folder: str) -> Response:
        recursive = request.query.get("recursive", ["false"])[0].lower() in {"true", "1"}
        entries = listing.tree_entries(commit, folder, recursive=recursive)
        if entries is None:
            raise RefusedError(entry_not_found(commit.sha))
        is_expanded = request.query.get("expand", ["false"])[0].lower() in {"true", "1"}
        page_size = min(self._page_size, _EXPANDED_PAGE_SIZE) if is_expanded else self._page_size
        page, headers = _page_of(request, entries, page_size, self.origin_url)
        rows = [listing.expanded(entry, repository, commit) for entry in page] if is_expanded else list(page)
        return json_response(rows).having(**headers)

    def _resolve(self, request: Request, repo_id: str, revision: str, path: str) -> Response:
        repository, commit = self._visible(request, repo_id, revision)
        self._access.check_bytes(request, repository)
        subject = self._located(repository, commit, path)
        if subject.file.is_lfs:
            return self._redirect_to_cdn(subject)
        if repository.private or repository.gated or subject.file.size_bytes == 0:
            return self._small_file(request, subject)
        etag = f'"{subject.file.blob_id}"'
        target = f"/api/resolve-cache/models/{repo_id}/{commit.sha}/{quote(path, safe='')}"
        location = f"{target}?{urlencode({request.path: '', 'etag': etag})}"
        response = _redirect(307, location).having(X_Repo_Commit=commit.sha, ETag=etag, Accept_Ranges="bytes")
        return replace(response, subject=subject)

    def _redirect_to_cdn(self, subject: Located) -> Response:
        response = _redirect(302, self._cdn.sign(subject)).having(
            X_Repo_Commit=subject.commit_sha,
            X_Linked_Size=str(subject.file.size_bytes),
            X_Linked_ETag=f'"{subject.file.content.sha256}"',
            Accept_Ranges="bytes",
        )
        return replace(response, subject=subject)

    def _small_file(self, request: Request, subject: Located) -> Response:
        response = file_response(request, subject, f'"{subject.file.blob_id}"')
        return response.having(X_Repo_Commit=subject.commit_sha)

    def _renamed(self, request: Request, repo_id: str) -> Response | None:
        """A relative 307 to the same path under the new id, if the id is a former one."""
        for repository in self.repositories.values():
            if repo_id in repository.renamed_from:
                return _redirect(307, request.target.replace(repo_id, repository.repo_id, 1))
        return None

    def _visible(self, request: Request, repo_id: str, revision: str) -> tuple[DemoRepository, Commit]:
        repository = self.repositories.get(repo_id)
        if repository is None:
            raise RefusedError(repository_not_found(request))
        self._access.check_listing(request, repository)
        return repository, self._commit(repository, revision)

    def _commit(self, repository: DemoRepository, revision: str) -> Commit:
        commit = repository.commit(revision)
        if commit is None:
            raise RefusedError(revision_not_found(revision))
        return commit

    def _located(self, repository: DemoRepository, commit: Commit, path: str) -> Located:
        if path not in commit.files:
            raise RefusedError(entry_not_found(commit.sha))
        return Located(repository.repo_id, commit.sha, commit.files[path])


def _redirect(status: int, location: str) -> Response:
    phrase = "Found" if status == 302 else "Temporary Redirect"
    return text_response(status, f"{phrase}. Redirecting to {location}").having(Location=location)


def _page_of(
    request: Request, rows: Sequence[_Row], page_size: int, origin_url: str
) -> tuple[Sequence[_Row], dict[str, str]]:
    """The rows requested by `limit` and `cursor`, and a `Link` to the next page; invalid values raise `ValueError`."""
    query = request.query
    limit = min(page_size, int(query["limit"][0])) if "limit" in query else page_size
    start = int(urlsafe_b64decode(query["cursor"][0])) if "cursor" in query else 0
    end = start + max(1, limit)
    if end >= len(rows):
        return rows[start:end], {}
    cursor = urlsafe_b64encode(str(end).encode()).decode()
    following = urlencode({**query, "cursor": [cursor]}, doseq=True)
    return rows[start:end], {"Link": f'<{origin_url}{request.path}?{following}>; rel="next"'}
