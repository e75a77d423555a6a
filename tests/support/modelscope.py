"""An embedded ModelScope: the two routes of its API that gglib_nb uses, over the repositories of the tests' hub."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from typing_extensions import override

from gglib_nb.demo.messages import Request, Response, json_response
from gglib_nb.demo.server import Line
from tests.support.faulty_hub import FaultyHub


class EmbeddedModelScope(FaultyHub):
    """Answers as ModelScope.

    Attributes:
        without_sha256: Paths for which its listing states none.
        changes: Fields of every file in it.
        has_pages: Whether it sends a listing in pages, or always all of it.
        largest_page: How many entries it puts into a page, whatever is requested.
        repeats: How many of a page's entries it repeats in the next one.
        states_count: Whether a listing states the number of all entries.
        names_commit: Whether a listing states the commit that it shows.
    """

    without_sha256: frozenset[str] = frozenset()
    changes: Mapping[str, object] = MappingProxyType({})
    has_pages = True
    largest_page = 1000
    repeats = 0
    states_count = True
    names_commit = True

    @override
    def answer(self, line: Line, request: Request, respond: Callable[[Request], Response]) -> bool:
        return super().answer(line, request, lambda one: self._respond(one, respond))

    def _respond(self, request: Request, respond: Callable[[Request], Response]) -> Response:
        match request.segments:
            case ("api", "v1", "models", owner, name, "repo", "files"):
                return self._files(f"{owner}/{name}", request)
            case ("models", _, _, "resolve", *_):
                found = respond(replace(request, target=request.target.removeprefix("/models")))
                return found.having(X_Linked_ETag=None, X_Linked_Size=None, X_Repo_Commit=None, X_Error_Code=None)
            case _ if request.origin == "cdn" or "resolve-cache" in request.segments:
                return respond(request)
            case _:
                return json_response({"Code": 404, "Success": False, "Message": "not found"}, 404)

    def _files(self, repo_id: str, request: Request) -> Response:
        repository, revision = self.repositories.get(repo_id), request.query["Revision"][0]
        commit = None if repository is None else repository.commit("main" if revision == "master" else revision)
        if commit is None:
            return json_response({"Code": 10010205001, "Success": False, "Message": "not found"}, 404)
        folders = [{"Type": "tree", "Path": "empty", "Name": "empty", "Revision": "0" * 40, "CommittedDate": 1}]
        files = [
            {
                "Type": "blob",
                "Path": file.path,
                "Name": file.path.rpartition("/")[2],
                "Size": file.content.size_bytes,
                "Sha256": "" if file.path in self.without_sha256 else file.content.sha256,
                "Revision": commit.sha,
                "CommittedDate": 1_700_000_000,
            }
            | dict(self.changes)
            for file in commit.files.values()
        ]
        size = min(self.largest_page, int(request.query.get("PageSize", ["50"])[0]))
        begin = (size - self.repeats) * (int(request.query.get("PageNumber", ["1"])[0]) - 1)
        page = (folders + files)[begin : begin + size] if self.has_pages else folders + files
        latest = {"Id": commit.sha if self.names_commit else "", "ShortId": commit.sha[:8]}
        count = {"TotalCount": len(folders + files)} if self.states_count else {}
        data = {"Files": page or None, "LatestCommitter": latest, **count}
        return json_response({"Code": 200, "Success": True, "Data": data})
