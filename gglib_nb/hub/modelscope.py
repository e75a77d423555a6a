"""Reads ModelScope (`ms://owner/name`): its listing as ours, and its files' addresses. Names have no prefix.

Of its API, https://www.modelscope.cn/docs: `GET /api/v1/models/{name}/repo/files` lists a revision with sizes, SHA-256,
and the commit that last changed each file; `/models/{name}/resolve/{commit}/{path}` serves a file. It states no commit
of a revision: the newest commit of a listed file has every listed file as it is.
"""

import re
from typing import Final

from gglib_nb.domain.http_rules import sha256_of, size_in
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.domain.names import MODELSCOPE
from gglib_nb.domain.plan import HubFile, RepoListing
from gglib_nb.errors import GglibError, HubError, RepoNotFoundError
from gglib_nb.hub.errors_map import reading
from gglib_nb.hub.transport import Json, Transport

_PAGE: Final = 100  # entries in a page of a listing
_MOST_PAGES: Final = 1000
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")  # it may be abbreviated


def asked(hub: Transport, name: str, revision: str | None, path: str | None = None) -> Asked:
    """What is requested; its `file_url` serves the file."""
    return Asked(f"{hub.endpoint}/models", name, revision or "master", path, has_login=False)


def list_files(hub: Transport, name: str, revision: str | None) -> RepoListing:
    """All files of a public repository at a revision.

    Raises:
        RepoNotFoundError: There is none, or it has no such revision.
    """
    try:
        return _listing(hub, asked(hub, name, revision))
    except RepoNotFoundError as error:
        what = name if revision is None else f"{name} with a revision {revision!r}"
        raise RepoNotFoundError(
            f"There is no public repository {what} at {hub.endpoint}. Check the spelling."
        ) from error
    except GglibError as error:
        said = str(error).replace("HF_ENDPOINT", "GGLIB_MODELSCOPE_ENDPOINT")
        error.args = (said.replace("The Hub's", "ModelScope's").replace("like a Hub", "like ModelScope"),)
        raise


@reading()
def _listing(hub: Transport, wanted: Asked) -> RepoListing:
    route = f"/api/v1/models/{wanted.repo_id}/repo/files"
    revision = wanted.revision
    entries: dict[str, Json] = {}
    for number in range(1, _MOST_PAGES + 1):
        pages = (("PageNumber", str(number)), ("PageSize", str(_PAGE)))
        data = hub.json(route, wanted, (("Revision", revision or ""), ("Recursive", "True"), *pages))["Data"]
        before = len(entries)
        entries |= {one["Path"]: one for one in data["Files"] or ()}
        if len(entries) in (before, data.get("TotalCount")):
            break  # none is new: after the last page, or from a server without pages, which always sends all
        # The branch may move between two pages.
        revision = (data.get("LatestCommitter") or {}).get("Id") or revision
    else:
        raise HubError(f"{wanted.repo_id} has more than {_MOST_PAGES * _PAGE:,} files and folders, too many to list.")
    found = [one for _, one in sorted(entries.items()) if one["Type"] == "blob"]
    newest = max(found, key=lambda one: int(one.get("CommittedDate") or 0), default={"Revision": "0" * 40})
    commit_sha = newest["Revision"]
    files = tuple(HubFile(one["Path"], size_in(str(one.get("Size"))), sha256_of(one.get("Sha256"))) for one in found)
    if not _COMMIT.fullmatch(commit_sha) or not all(isinstance(path, str) for path in entries):
        raise ValueError(commit_sha)
    return RepoListing(f"{MODELSCOPE}{wanted.repo_id}", commit_sha, None, False, files)
