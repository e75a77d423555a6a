"""The Hub's ways to say no, and who may see what.

Which status, `X-Error-Code` and `X-Error-Message` belong together is the order in which
`huggingface_hub.utils.hf_raise_for_status` reads them. Over plain HTTP the client needs the code: it tells a
missing repository from a bare 401 only on `https://`.
"""

from collections.abc import Collection, Mapping

from gglib_nb.demo.messages import Request, Response, json_response
from gglib_nb.demo.repositories import DemoRepository

BAD_TOKEN_MESSAGE = "Invalid credentials in Authorization header"  # noqa: S105  # a message, not a secret
DISABLED_MESSAGE = "Access to this resource is disabled."
EVERYTHING = "*"
GRANTED_TOKEN = "hf_demo_granted"  # noqa: S105  # opens made-up repositories on loopback only
PLAIN_TOKEN = "hf_demo_plain"  # noqa: S105
PENDING_TOKEN = "hf_demo_pending"  # noqa: S105
REJECTED_TOKEN = "hf_demo_rejected"  # noqa: S105
DEFAULT_TOKENS: Mapping[str, Collection[str]] = {
    GRANTED_TOKEN: (EVERYTHING,),
    PLAIN_TOKEN: (),
    PENDING_TOKEN: (),
    REJECTED_TOKEN: (),
}
# What the Hub says to a user whose request for access was not answered, and to one whose request was rejected.
_STATES: Mapping[str | None, str] = {
    PENDING_TOKEN: "Your request to access model {repo_id} is awaiting a review from the repo authors.",
    REJECTED_TOKEN: "Your request to access model {repo_id} has been rejected by the repo's authors.",
}


class RefusedError(Exception):
    """A route refuses a request; carries the whole answer."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def refusal(status: int, error_code: str | None, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with the Hub's error headers and `{"error": message}`; `error_code` is left out where `None`."""
    response = json_response({"error": message}, status).having(X_Error_Code=error_code, X_Error_Message=message)
    return response.having(**dict(headers or {}))


def bad_token() -> Response:
    """The answer to a token that does not exist."""
    return refusal(401, None, BAD_TOKEN_MESSAGE)


def repository_not_found(request: Request) -> Response:
    """The answer for a repository that is not there or must not be known to be."""
    if request.token is None:
        return refusal(401, "RepoNotFound", "Invalid username or password.")
    return refusal(404, "RepoNotFound", "Repository not found")


def revision_not_found(revision: str) -> Response:
    """The answer for a revision that names no commit."""
    return refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def entry_not_found(commit_sha: str) -> Response:
    """The answer for a path that is not in the commit; names the commit, so that clients can remember it."""
    return refusal(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit_sha})


class Access:
    """Who may open which repository.

    Args:
        tokens: the repositories each known token opens, `*` for all; an unknown token is refused everywhere.
    """

    def __init__(self, tokens: Mapping[str, Collection[str]]) -> None:
        self._tokens = tokens

    def grant(self, token: str, repo_id: str) -> None:
        """Open a repository for a token from now on, as its authors do when they accept a request."""
        self._tokens = {**self._tokens, token: (*self._tokens.get(token, ()), repo_id)}

    def check_token(self, request: Request) -> None:
        """Refuse a token that does not exist.

        Raises:
            RefusedError: with 401 and the Hub's text for a bad token.
        """
        if request.token is not None and request.token not in self._tokens:
            raise RefusedError(bad_token())

    def is_granted(self, request: Request, repository: DemoRepository) -> bool:
        """Whether the request's token opens this repository."""
        granted = self._tokens.get(request.token or "", ())
        return EVERYTHING in granted or repository.repo_id in granted

    def can_list(self, request: Request, repository: DemoRepository) -> bool:
        """Whether the repository may be known to exist."""
        return not repository.private or self.is_granted(request, repository)

    def check_listing(self, request: Request, repository: DemoRepository) -> None:
        """Refuse what may not even be known to exist.

        Raises:
            RefusedError: the repository is private or disabled.
        """
        if not self.can_list(request, repository):
            raise RefusedError(repository_not_found(request))
        if repository.disabled:
            raise RefusedError(refusal(403, None, DISABLED_MESSAGE))

    def check_bytes(self, request: Request, repository: DemoRepository) -> None:
        """Refuse the files of a gated repository to who was not granted access.

        Raises:
            RefusedError: with 401 for anonymous requests and 403 for others.
        """
        if not repository.gated or self.is_granted(request, repository):
            return
        if request.token is None:
            message = f"Access to model {repository.repo_id} is restricted. You must have access to it and be authenticated to access it. Please log in."
            raise RefusedError(refusal(401, "GatedRepo", message))
        message = _STATES.get(
            request.token,
            "Access to model {repo_id} is restricted and you are not in the authorized list. Visit the model's page to ask for access.",
        ).format(repo_id=repository.repo_id)
        raise RefusedError(refusal(403, "GatedRepo", message))
