"""Reads a hub: listings, access, search, and the first bytes of a file.

Synchronous, for a small pool of threads: every call may wait for the network, within its timeouts. It decides
nothing about variants, queues or folders, and downloads no files.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, Literal
from urllib.parse import quote

from typing_extensions import override

from gglib_nb.domain import units
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.domain.names import check_repo_id, modelscope_name
from gglib_nb.domain.plan import FileCommit, HubFile, RepoListing, RepoSummary
from gglib_nb.domain.units import listed
from gglib_nb.errors import GglibError, HubError, RepoNotFoundError, RequestError, RevisionNotFoundError
from gglib_nb.hub import answers
from gglib_nb.hub.modelscope import ModelScope
from gglib_nb.hub.transport import NoRouteError, Params, Patience, Transport

SEARCH_ORDERS: Final = {
    "downloads": "downloads",
    "likes": "likes",
    "trending": "trendingScore",
    "created": "createdAt",
    "modified": "lastModified",
}
_ROW_FIELDS: Final = ("downloads", "likes", "lastModified", "gated", "gguf")
_HEAD: Final = tuple(("expand", name) for name in ("sha", "gated", "private"))
_BLOBS: Final = (("blobs", "true"),)  # with sizes and digests
_MOST_ROWS_SEEN: Final = 1000  # a size limit that fits nothing must not read the whole Hub
_MOST_ENTRIES: Final = 250_000  # more than any repository has; each stored entry takes a few hundred bytes
_MOST_SCANNED: Final = 100
_MOST_FAILURES: Final = 3  # of folders that cannot be read; a hub that is down costs seconds for each
_MOST_REVISIONS: Final = 10
_DEFAULT_BRANCH: Final = "main"  # of every repository on the Hub
_LARGEST_RANGE_BYTES: Final = 64 * 1024 * 1024


class HubClient(Transport):
    """Asks one hub. Safe from any thread; holds nothing open between calls.

    Args are those of `Transport`, and `modelscope`, the base URL of ModelScope, which is asked for the repositories of its prefix.

    Every call also raises: `InvalidTokenError`, `RateLimitedError`, `HubUnavailableError`, `NetworkError`, `OfflineError`,
    `InvalidConfigError` (proxy, certificate), `InvalidRepoIdError` (without a request), and `ManagerClosedError` after `close`.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | Literal[False] | None = None,
        *,
        is_offline: bool = False,
        patience: Patience | None = None,
        mirrors: Iterable[str] = (),
        modelscope: str = "",
    ) -> None:
        super().__init__(endpoint, token, is_offline=is_offline, patience=patience, mirrors=mirrors)
        self._modelscope = ModelScope(modelscope, False, is_offline=is_offline, patience=patience)

    @override
    def close(self) -> None:
        self._modelscope.close()
        super().close()

    def page_url(self, repo_id: str) -> str:
        """The address of a repository's page."""
        name = modelscope_name(repo_id)
        return f"{self.endpoint}/{repo_id}" if name is None else self._modelscope.asked(name, None).page

    def asked(self, repo_id: str, revision: str | None = None, path: str | None = None) -> Asked:
        """What is requested; raises `InvalidRepoIdError`."""
        check_repo_id(repo_id)
        return Asked(self.endpoint, repo_id, revision, path)

    # Listings --------------------------------------------------------------------------------------------------------

    def list_files(self, repo_id: str, revision: str | None = None) -> RepoListing:
        """All files of a repository at the commit that a revision names now.

        The revision (branch, tag or commit; None is the default branch) is resolved once: a branch may move meanwhile. A former
        id finds the repository under its present one.

        Raises:
            RepoNotFoundError: There is none, or the token has no access to it.
            RevisionNotFoundError: The repository has no such revision; the text names those it has.
        """
        check_repo_id(repo_id)
        if (name := modelscope_name(repo_id)) is not None:
            return self._modelscope.list_files(name, revision)
        return self.anywhere(lambda hub: hub._list_files(hub.asked(repo_id, revision)))  # noqa: SLF001 - our own class

    def _list_files(self, asked: Asked) -> RepoListing:
        route, forgiven = f"/api/models/{asked.repo_id}", list[type[Exception]]([NoRouteError])
        # Uses the branch's name even if none was given: a mirror without its hub (olah, offline) has only what was requested by name.
        routes = [f"{route}/revision/{quote(asked.revision or _DEFAULT_BRANCH, safe='')}"]
        if asked.revision is None:  # on some hubs the default branch has another name
            routes.append(route)
            forgiven.append(RevisionNotFoundError)
        try:
            info = self._first_of([(at, params) for at in routes for params in (_HEAD, ())], asked, *forgiven)
        except RevisionNotFoundError as error:
            raise RevisionNotFoundError(f"{error}{self._revisions(asked)}") from error.__cause__
        return answers.listing(info, asked, self._files)

    def _files(self, asked: Asked) -> tuple[HubFile, ...]:
        """The files of a commit: from its tree, or from the repository's own list where a mirror has no trees."""
        route, commit_sha = f"/api/models/{asked.repo_id}", asked.revision
        try:
            rows = self.pages(f"{route}/tree/{commit_sha}", asked, (("recursive", "true"),), is_optional=True)
            entries = list(islice(rows, _MOST_ENTRIES + 1))
        except NoRouteError:
            tries = [(f"{route}/revision/{commit_sha}", _BLOBS), (route, _BLOBS), (route, ())]
            entries = answers.siblings(self._first_of(tries, asked, NoRouteError))
        if len(entries) > _MOST_ENTRIES:
            raise HubError(f"{asked.repo_id} has more than {_MOST_ENTRIES:,} files and folders, too many to list.")
        return answers.files(entries)

    def _first_of(
        self, tries: Sequence[tuple[str, Params]], asked: Asked, *forgiven: type[Exception]
    ) -> dict[str, Any]:
        """The answer of the first route and parameters without a forgiven error; the last one's error is raised."""
        for route, params in tries[:-1]:
            with suppress(*forgiven):
                return self.json(route, asked, params, is_optional=True)
        route, params = tries[-1]
        return self.json(route, asked, params)

    def _revisions(self, asked: Asked) -> str:
        """The existing revision names, as a sentence; empty if the hub does not state them."""
        names: list[str] = []
        with suppress(GglibError):
            names = answers.revision_names(self.looking.json(f"/api/models/{asked.repo_id}/refs", asked))
        return f" It has {listed(names, _MOST_REVISIONS)}." if names else ""

    def file_commits(self, repo_id: str, commit_sha: str, paths: Iterable[str]) -> dict[str, FileCommit]:
        """The last commit that changed each file, by path in the repository; files for which it is unknown are left out."""
        texts = self._expanded(repo_id, commit_sha, paths, "lastCommit", ("title", "date"))
        return {path: FileCommit(title, date) for path, (title, date) in texts.items()}

    def scan_states(self, repo_id: str, commit_sha: str, paths: Iterable[str]) -> dict[str, str]:
        """The results of the Hub's security scan, by path: `safe`, `unsafe`, `queued`, ...

        Files that the Hub has not scanned are left out, as are those after the first hundred of a folder.
        """
        texts = self._expanded(repo_id, commit_sha, paths, "securityFileStatus", ("status",), _MOST_SCANNED)
        return {path: state for path, (state,) in texts.items() if state}

    def _expanded(
        self,
        repo_id: str,
        commit_sha: str,
        paths: Iterable[str],
        field: str,
        keys: tuple[str, ...],
        most: int | None = None,
    ) -> dict[str, tuple[str, ...]]:
        """What the expanded trees of their folders say of files, by path; at most `most` entries of a folder are read.

        Files in folders that cannot be read are left out, and all of ModelScope, which has no such trees. Raises nothing.
        """
        found: dict[str, tuple[str, ...]] = {}
        wanted, failures = set(paths), 0
        for folder in [] if modelscope_name(repo_id) else sorted({path.rpartition("/")[0] for path in wanted}):
            route = f"/api/models/{repo_id}/tree/{commit_sha}/{quote(folder)}".removesuffix("/")

            def ask(hub: HubClient, route: str = route) -> dict[str, tuple[str, ...]]:
                entries = hub.looking.pages(route, hub.asked(repo_id, commit_sha), (("expand", "true"),))
                return answers.expanded(islice(entries, most), field, keys)

            try:
                found |= self.anywhere(ask)
            except GglibError:
                failures += 1
                if failures == _MOST_FAILURES:
                    break
        return {path: texts for path, texts in found.items() if path in wanted}

    # Access, search, ranges ------------------------------------------------------------------------------------------

    def check_access(self, repository: RepoListing | str) -> None:
        """Checks whether the files of a listing or id may be downloaded, before anything is queued. Only the hub decides it, no mirror.

        Raises:
            GatedRepoError: Its terms have to be accepted first; `accept_url` is the page.
            RepoNotFoundError: There is none, or the token has no access to it.
        """
        forgiven: tuple[type[Exception], ...] = (NoRouteError,)  # then the download will show it
        if not isinstance(repository, str):
            if repository.gate is None:
                return
            # It was listed a moment ago: a hub that does not find it now has no such route.
            repository, forgiven = repository.repo_id, (NoRouteError, RepoNotFoundError)
        if modelscope_name(repository) is None:
            with suppress(*forgiven):
                self.json(f"/api/models/{repository}/auth-check", self.asked(repository), is_optional=True)

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
        """Repositories that hold GGUF files; empty words find all, and None sets no limit.

        Args:
            words: Searched in the ids.
            max_parameters: Leaves out models with more parameters, and those for which the hub states no number.
            licence: As the Hub names it, such as `apache-2.0`.
            task: As the Hub names it, such as `text-generation` or `image-text-to-text`.
            quantized_from: Only quantizations of this repository.
            sort: One of `SEARCH_ORDERS`, highest or newest first.
            limit: Most rows to return.

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

        def ask(hub: HubClient) -> list[RepoSummary]:
            rows = islice(hub.pages("/api/models", Asked(hub.endpoint), params), _MOST_ROWS_SEEN)
            found: Iterable[RepoSummary] = filter(None, map(answers.repo_summary, rows))
            if max_parameters is not None:
                found = (row for row in found if (row.parameter_count or max_parameters + 1) <= max_parameters)
            return list(islice(found, limit))

        return self.anywhere(ask)

    def read_range(self, repo_id: str, commit_sha: str, path: str, offset: int, length: int) -> bytes:
        """Bytes of a file from `offset`, such as its GGUF header; fewer than `length` at its end, none beyond it.

        Raises:
            GatedRepoError: As `check_access`.
            HubError: There is no such file, or more than 67 MB are requested.
        """
        if length <= 0:
            return b""
        if offset < 0 or length > _LARGEST_RANGE_BYTES:
            most = units.size(_LARGEST_RANGE_BYTES)
            raise HubError(f"At most {most} of a file can be read at once. Download the file instead.")
        check_repo_id(repo_id)
        if (name := modelscope_name(repo_id)) is not None:
            return self._modelscope.looking.range(self._modelscope.asked(name, commit_sha, path), offset, length)
        return self.anywhere(lambda hub: hub.looking.range(hub.asked(repo_id, commit_sha, path), offset, length))
