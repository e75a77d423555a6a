"""Reads a hub: listings, access, search, and the first bytes of a file.

Synchronous, for a small pool of threads: every call may wait for the network, within its timeouts. It decides
nothing about variants, queues or folders, and downloads no files. JSON fields have the Hub's names
(`huggingface_hub.hf_api.ModelInfo`, `RepoFile`); other hubs omit some.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, product
from typing import Any, Final, Literal, TypeVar, get_args
from urllib.parse import quote

from gglib_nb.domain.http_rules import sha256_of, size_in
from gglib_nb.domain.hub_answers import COMMIT, Asked
from gglib_nb.domain.names import check_repo_id, modelscope_name
from gglib_nb.domain.plan import FileCommit, Gate, HubFile, RepoListing, RepoSummary
from gglib_nb.domain.text import printable
from gglib_nb.domain.units import listed
from gglib_nb.errors import (
    GatedRepoError,
    GglibError,
    HubError,
    HubUnavailableError,
    InvalidTokenError,
    RepoNotFoundError,
    RequestError,
    RevisionNotFoundError,
)
from gglib_nb.hub import modelscope
from gglib_nb.hub.errors_map import reading
from gglib_nb.hub.transport import BRIEF, Json, Pairs, RetryPolicy, Transport, is_no_route

_Result = TypeVar("_Result")

SEARCH_ORDERS: Final = {
    "downloads": "downloads",
    "likes": "likes",
    "trending": "trendingScore",
    "created": "createdAt",
    "modified": "lastModified",
}
_ROW_FIELDS: Final = ("downloads", "likes", "lastModified", "gated", "gguf")
_HEAD: Final = tuple(("expand", name) for name in ("sha", "gated", "private"))
_MOST_ROWS_SEEN: Final = 1000  # a size limit that fits nothing must not read the whole Hub
_MOST_ENTRIES: Final = 250_000  # more than any repository has; each stored entry takes a few hundred bytes
_MOST_FOLDERS: Final = 1000  # that are listed one by one
_MOST_EXPANDED: Final = 200  # entries of a folder; the Hub sends fifty at a time, and slowly
_MOST_FAILURES: Final = 3  # of folders that cannot be read; a hub that is down costs seconds for each
_MOST_REVISIONS: Final = 10


class HubClient(Transport):
    """Asks one hub, and others for what it cannot provide. Safe from any thread; holds nothing open between calls.

    Args are those of `Transport`, and:
        mirrors: Base URLs of hubs that are asked, without a token, for what this one cannot provide.
        modelscope: Base URL of ModelScope, which is asked for the repositories of its prefix.

    Every call also raises: `InvalidTokenError`, `RateLimitedError`, `HubUnavailableError`, `NetworkError`,
    `OfflineError`, `InvalidConfigError` (proxy, certificate), `InvalidRepoIdError` (without a request), and
    `ManagerClosedError` after `close`.
    """

    def __init__(
        self,
        endpoint: str,
        token: str | Literal[False] | None = None,
        *,
        is_offline: bool = False,
        retry_policy: RetryPolicy | None = None,
        mirrors: Sequence[str] = (),
        modelscope: str = "",
    ) -> None:
        brief = retry_policy or BRIEF
        super().__init__(endpoint, token, is_offline=is_offline, retry_policy=brief if mirrors else retry_policy)
        self._mirrors = [self.beside(url, False, brief) for url in mirrors]
        self._modelscope = self.beside(modelscope, False, retry_policy)

    def page_url(self, repo_id: str) -> str:
        """The address of a repository's page."""
        name = modelscope_name(repo_id)
        return f"{self.endpoint}/{repo_id}" if name is None else modelscope.asked(self._modelscope, name, None).page

    def list_files(self, repo_id: str, revision: str | None = None) -> RepoListing:
        """All files of a repository at the commit that a revision names now.

        The revision (branch, tag or commit; None is the default branch) is resolved once: a branch may move meanwhile.
        A former id finds the repository under its present one.

        Raises:
            RepoNotFoundError: There is none, or the token has no access to it.
            RevisionNotFoundError: The repository has no such revision; the text names those it has.
        """
        check_repo_id(repo_id)
        if (name := modelscope_name(repo_id)) is not None:
            return modelscope.list_files(self._modelscope, name, revision)
        return self._anywhere(lambda hub: _listing(hub, Asked(hub.endpoint, repo_id, revision)))

    def file_commits(self, repo_id: str, commit_sha: str, paths: Iterable[str]) -> dict[str, FileCommit]:
        """The last commit that changed each file, by path; files for which the hub states none are left out."""
        found = self._expanded(repo_id, commit_sha, paths, "lastCommit")
        return {path: FileCommit(_text(one, "title") or "", _text(one, "date") or "") for path, one in found}

    def scan_states(self, repo_id: str, commit_sha: str, paths: Iterable[str]) -> dict[str, str]:
        """The Hub's security scan, by path: `safe`, `unsafe`, `queued`, ...; files not scanned are left out."""
        found = self._expanded(repo_id, commit_sha, paths, "securityFileStatus")
        return {path: state for path, one in found if (state := _text(one, "status"))}

    def _expanded(self, repo_id: str, commit_sha: str, paths: Iterable[str], field: str) -> Iterator[tuple[str, Json]]:
        """What the expanded trees of their folders say of files. Raises nothing.

        Left out are files after the first 200 of a folder, those in folders that cannot be read, all after the third
        such folder, and all of ModelScope, which has no such trees.
        """
        wanted, failures = set(paths), 0
        for folder in [] if modelscope_name(repo_id) else sorted({path.rpartition("/")[0] for path in wanted}):
            route = f"/api/models/{repo_id}/tree/{commit_sha}/{quote(folder, errors='replace')}".removesuffix("/")

            @reading()
            def read(hub: Transport, route: str = route) -> list[tuple[str, Json]]:
                rows = hub.pages(route, Asked(hub.endpoint, repo_id, commit_sha), (("expand", "true"),), is_brief=True)
                said = ((one["path"], one.get(field)) for one in islice(rows, _MOST_EXPANDED))
                return [(path, one) for path, one in said if path in wanted and isinstance(one, dict)]

            try:
                yield from self._anywhere(read)
            except GglibError:
                failures += 1
                if failures == _MOST_FAILURES:
                    return

    def check_access(self, repository: RepoListing | str) -> None:
        """Checks whether the files of a listing or id may be downloaded, before anything is queued. Asks no mirror.

        Raises:
            GatedRepoError: Its terms have to be accepted first; `accept_url` is the page.
            RepoNotFoundError: There is none, or the token has no access to it.
        """
        repo_id, listing = (repository, None) if isinstance(repository, str) else (repository.repo_id, repository)
        check_repo_id(repo_id)
        if modelscope_name(repo_id) is not None or (listing is not None and listing.gate is None):
            return
        try:
            self.json(f"/api/models/{repo_id}/auth-check", Asked(self.endpoint, repo_id))
        except HubError as error:  # a hub that does not find what it listed a moment ago has no such route
            if not is_no_route(error) and (listing is None or not isinstance(error, RepoNotFoundError)):
                raise

    def search(
        self,
        words: str = "",
        *,
        max_parameters: float | None = None,
        licence: str | None = None,
        task: str | None = None,
        quantized_from: str | None = None,
        sort: str = "downloads",
        limit: int = 20,
    ) -> list[RepoSummary]:
        """Repositories that hold GGUF files, and that are quantizations of one if it is given; empty words find all.

        `sort` is one of `SEARCH_ORDERS`. A model for which the hub states no number of parameters counts as too large.

        Raises:
            RequestError: There is no such order.
        """
        if sort not in SEARCH_ORDERS:
            raise RequestError(f"Search results cannot be sorted by {sort!r}; choose {', '.join(SEARCH_ORDERS)}.")
        tags = (("license:", licence), ("", task), ("base_model:quantized:", quantized_from))
        params = [
            *((("search", words.strip()),) if words.strip() else ()),
            *(("filter", "gguf"), ("sort", SEARCH_ORDERS[sort])),
            ("limit", str(limit if max_parameters is None else 100)),
            *(("expand", name) for name in _ROW_FIELDS),
            *(("filter", f"{kind}{value.strip()}") for kind, value in tags if value and value.strip()),
        ]

        def read(hub: Transport) -> list[RepoSummary]:
            rows = islice(hub.pages("/api/models", Asked(hub.endpoint), params), _MOST_ROWS_SEEN)
            found: Iterable[RepoSummary] = filter(None, map(_summary, rows))
            if max_parameters is not None:
                found = (row for row in found if (row.parameter_count or max_parameters + 1) <= max_parameters)
            return list(islice(found, limit))

        return self._anywhere(read)

    def read_range(self, repo_id: str, commit_sha: str, path: str, offset: int, length: int) -> bytes:
        """Bytes of a file from `offset`, such as its GGUF header; fewer than `length` at its end, none beyond it.

        Raises:
            GatedRepoError: As `check_access`.
            HubError: There is no such file, or more than 67 MB are requested.
        """
        check_repo_id(repo_id)
        if (name := modelscope_name(repo_id)) is not None:
            asked = modelscope.asked(self._modelscope, name, commit_sha, path)
            return self._modelscope.bytes_of(asked, offset, length)
        return self._anywhere(lambda hub: hub.bytes_of(Asked(hub.endpoint, repo_id, commit_sha, path), offset, length))

    def _anywhere(self, ask: Callable[[Transport], _Result]) -> _Result:
        """The answer of this hub, or of the first mirror that has one; of no mirror if this hub refuses the user."""
        try:
            return ask(self)
        except (GatedRepoError, InvalidTokenError):
            raise
        except GglibError:
            for mirror in self._mirrors:
                with suppress(GglibError):
                    return ask(mirror)
            raise


# What one hub answers ------------------------------------------------------------------------------------------------


@reading()
def _listing(hub: Transport, asked: Asked) -> RepoListing:
    # Names the branch even if none was given: a mirror without its hub (olah, offline) has only requested names.
    routes = [f"/revision/{quote(asked.revision or 'main', safe='')}"]
    if asked.revision is None:  # on some hubs the default branch has another name than on the Hub
        routes.append("")
    try:
        info = _first_of(hub, asked, routes, _HEAD)
    except RevisionNotFoundError as error:
        raise RevisionNotFoundError(f"{error}{_revisions(hub, asked)}") from error.__cause__
    repo_id, commit_sha = info.get("id") or info.get("modelId") or asked.what, info["sha"]
    check_repo_id(repo_id)
    if not COMMIT.fullmatch(commit_sha):
        raise ValueError(commit_sha)
    files = _files(hub, Asked(hub.endpoint, repo_id, commit_sha))
    return RepoListing(repo_id, commit_sha, _gate(info), bool(info.get("private")), files)


def _files(hub: Transport, asked: Asked) -> tuple[HubFile, ...]:
    """The files of a commit by path: from its tree, or from its info where a mirror has no trees."""
    try:
        # `oid` beside `lfs` is a git id, and `xetHash` a Merkle hash: neither is the content's SHA-256.
        entries, path, digest = _tree(hub, asked), "path", "oid"
    except HubError as error:
        if not is_no_route(error):
            raise
        info = _first_of(hub, asked, (f"/revision/{asked.revision}", ""), (("blobs", "true"),))
        entries, path, digest = info["siblings"], "rfilename", "sha256"
    if len(entries) > _MOST_ENTRIES:
        raise HubError(f"{asked.repo_id} has more than {_MOST_ENTRIES:,} files and folders, too many to list.")
    found = {
        one[path]: HubFile(one[path], size_in(str(one.get("size"))), sha256_of(str((one.get("lfs") or {}).get(digest))))
        for one in entries
        if one.get("type", "file") == "file"
    }
    if not all(isinstance(at, str) for at in found):
        raise TypeError("a path that is not text")
    return tuple(found[at] for at in sorted(found))


def _tree(hub: Transport, asked: Asked) -> list[Json]:
    """The entries of a commit's tree, folder by folder from a mirror that ignores `recursive`."""
    entries, folders = dict[str, Json](), [""]
    for folder in folders:  # it grows
        if len(folders) > _MOST_FOLDERS:
            raise HubError(f"{hub.endpoint} cannot list all folders of {asked.repo_id}. Set another HF_ENDPOINT.")
        route = f"/api/models/{asked.repo_id}/tree/{asked.revision}{quote(folder, errors='replace')}"
        rows = islice(hub.pages(route, asked, (("recursive", "true"),)), _MOST_ENTRIES + 1 - len(entries))
        found = {one["path"]: one for one in rows if one["path"] not in entries}
        filled = {path.rpartition("/")[0] for path in found}
        folders += [f"/{path}" for path, one in found.items() if one.get("type") == "directory" and path not in filled]
        entries |= found
    return list(entries.values())


def _first_of(hub: Transport, asked: Asked, routes: Iterable[str], full: Pairs) -> Json:
    """The answer to the first of these routes that the hub has, with all parameters or without; or the last error."""
    last = HubError("")
    for route, params in product(routes, (full, ())):
        try:
            return hub.json(f"/api/models/{asked.repo_id}{route}", asked, params)
        except HubError as error:
            is_default = asked.revision is None and isinstance(error, RevisionNotFoundError)
            if not is_default and not is_no_route(error):
                raise
            last = error
    raise last


def _revisions(hub: Transport, asked: Asked) -> str:
    """The existing revision names, as a sentence; empty if the hub does not state them."""
    names: list[str] = []
    with suppress(GglibError), reading():
        refs = hub.json(f"/api/models/{asked.repo_id}/refs", asked, is_brief=True)
        names = [printable(str(ref["name"])) for kind in ("branches", "tags") for ref in refs.get(kind, ())]
    return f" It has {listed(names, _MOST_REVISIONS)}." if names else ""


def _summary(row: Json) -> RepoSummary | None:
    """A row of a search, with the hub's raw texts; None: it has another form, or its id is not `owner/name`."""
    with suppress(HubUnavailableError), reading():
        check_repo_id(row["id"])
        header = row.get("gguf") or {}
        return RepoSummary(
            repo_id=row["id"],
            downloads=size_in(str(row.get("downloads"))),
            likes=size_in(str(row.get("likes"))),
            parameter_count=size_in(str(header.get("total"))),
            architecture=_text(header, "architecture"),
            gate=_gate(row),
            modified_at=_text(row, "lastModified"),
        )
    return None


def _gate(fields: Json) -> Gate | None:
    gate: Any = fields.get("gated")
    return gate if gate in get_args(Gate) else None


def _text(fields: Json, name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None
