"""The Hub's refusals, and the access rules of repositories.

The combinations of status, `X-Error-Code` and `X-Error-Message` follow the order in which
`huggingface_hub.utils.hf_raise_for_status` reads them. Over plain HTTP the client needs the code: it distinguishes a
missing repository from a bare 401 only on `https://`.
"""

from collections.abc import Collection, Mapping

from gglib_nb.demo.messages import Request, Response, json_response
from gglib_nb.demo.repositories import DemoRepository

BAD_TOKEN_MESSAGE = "Invalid credentials in Authorization header"  # noqa: S105  # a message, not a secret
DISABLED_MESSAGE = "Access to this resource is disabled."
EVERYTHING = "*"
GRANTED_TOKEN = "hf_demo_granted"  # noqa: S105  # opens made-up repositories on loopback only
DEFAULT_TOKENS: Mapping[str, Collection[str]] = {GRANTED_TOKEN: (EVERYTHING,)}


class RefusedError(Exception):
    """A route refuses a request; carries the whole answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def refusal(status: int, error_code: str | None, message: str) -> Response:
    """An answer with the Hub's error headers and `{"error": message}`; `error_code` is omitted if `None`."""
    return json_response({"error": message}, status).having(X_Error_Code=error_code, X_Error_Message=message)


def bad_token() -> Response:
    """The answer to an unknown token."""
    return refusal(401, None, BAD_TOKEN_MESSAGE)


def repository_not_found(request: Request) -> Response:
    """The answer for a repository that does not exist or must appear not to."""
    if request.token is None:
        return refusal(401, "RepoNotFound", "Invalid username or password.")
    return refusal(404, "RepoNotFound", "Repository not found")


def revision_not_found(revision: str) -> Response:
    """The answer for a revision that names no commit."""
    return refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def entry_not_found(commit_sha: str) -> Response:
    """The answer for a path that is not in the commit; names the commit, so that clients can cache it."""
    return refusal(404, "EntryNotFound", "Entry not found").having(X_Repo_Commit=commit_sha)


class Access:
    """The access rules of repositories.

    Args:
        tokens: the repositories that each known token gives access to, `*` for all; an unknown token is refused.
    """

    def __init__(self, tokens: Mapping[str, Collection[str]]) -> None:
        self._tokens = tokens

    def check_token(self, request: Request) -> None:
        """Raise `RefusedError` with 401 for an unknown token."""
        if request.token is not None and request.token not in self._tokens:
            raise RefusedError(bad_token())

    def is_granted(self, request: Request, repository: DemoRepository) -> bool:
        """Whether the request's token gives access to this repository."""
        granted = self._tokens.get(request.token or "", ())
        return EVERYTHING in granted or repository.repo_id in granted

    def can_list(self, request: Request, repository: DemoRepository) -> bool:
        """Whether the repository may be known to exist."""
        return not repository.private or self.is_granted(request, repository)

    def check_listing(self, request: Request, repository: DemoRepository) -> None:
        """Raise `RefusedError` if the repository is disabled, or private without access for this token."""
        if not self.can_list(request, repository):
            raise RefusedError(repository_not_found(request))
        if repository.disabled:
            raise RefusedError(refusal(403, None, DISABLED_MESSAGE))

    def check_bytes(self, request: Request, repository: DemoRepository) -> None:
        """Raise `RefusedError` for a gated repository without access: 401 for anonymous requests, 403 for others."""
        if not repository.gated or self.is_granted(request, repository):
            return
        restricted = f"Access to model {repository.repo_id} is restricted"
        if request.token is None:
            message = f"{restricted}. You must have access to it and be authenticated to access it. Please log in."
            raise RefusedError(refusal(401, "GatedRepo", message))
        message = f"{restricted} and you are not in the authorized list. Visit the model's page to ask for access."
        raise RefusedError(refusal(403, "GatedRepo", message))
