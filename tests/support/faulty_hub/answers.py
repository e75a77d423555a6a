"""Responses of the real Hub that the embedded hub lacks: paths-info, pending and rejected requests for access, quotas."""

import itertools
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from urllib.parse import parse_qs

from gglib_nb.demo.messages import Request, Response, json_response
from gglib_nb.demo.refusals import DEFAULT_TOKENS, refusal

PLAIN_TOKEN = "hf_demo_plain"
PENDING_TOKEN = "hf_demo_pending"
REJECTED_TOKEN = "hf_demo_rejected"
TOKENS: Mapping[str, Collection[str]] = {**DEFAULT_TOKENS, PLAIN_TOKEN: (), PENDING_TOKEN: (), REJECTED_TOKEN: ()}
_WINDOW_S = 300
# The Hub's messages to a user whose request for access is pending, and to one whose request was rejected.
_STATES: Mapping[str | None, str] = {
    PENDING_TOKEN: "Your request to access model {repo_id} is awaiting a review from the repo authors.",
    REJECTED_TOKEN: "Your request to access model {repo_id} has been rejected by the repo's authors.",
}


class Answers:
    """The right responses of one hub."""

    def __init__(self) -> None:
        self._answered = itertools.count()

    def respond(self, request: Request, respond: Callable[[Request], Response]) -> Response:
        """Respond like the real Hub, based on the embedded hub's responses."""
        if request.origin != "hub":
            return respond(request)
        if request.method == "POST" and request.segments[4:5] == ("paths-info",):
            response = _paths_info(request, respond)
        else:
            response = respond(request)
        if response.headers.get("X-Error-Code") == "GatedRepo" and request.token in _STATES:
            message = _STATES[request.token].format(repo_id=_repo_id(request))
            response = refusal(403, "GatedRepo", message)
        return response.having(**self._quota(request))

    def _quota(self, request: Request) -> dict[str, str]:
        bucket, quota = ("resolvers", 3000) if "/resolve" in request.path else ("api", 500)
        left = quota - 1 - next(self._answered) % (quota // 2)
        return {
            "RateLimit": f'"{bucket}";r={left};t={_WINDOW_S - int(time.time()) % _WINDOW_S}',
            "RateLimit_Policy": f'"fixed window";"{bucket}";q={quota};w={_WINDOW_S}',
        }


def _repo_id(request: Request) -> str:
    """The repository in a path of the API or of a file."""
    segments = request.segments
    return "/".join(segments[2:4] if segments[0] == "api" else segments[:2])


def _paths_info(request: Request, respond: Callable[[Request], Response]) -> Response:
    """The entries of a tree that a form requests by name; unknown names are silently ignored, as on the Hub."""
    fields = _form(request)
    expand = fields.get("expand", ["false"])[0].lower()
    target: str | None = request.path.replace("/paths-info/", "/tree/", 1) + f"?recursive=true&expand={expand}"
    entries: dict[str, object] = {}
    while target is not None:
        page = respond(replace(request, method="GET", target=target, body=b""))
        if page.status != 200:
            return page
        entries |= {entry["path"]: entry for entry in json.loads(b"".join(page.content.slices()))}
        following = page.headers.get("Link")
        target = None if following is None else following.partition(">")[0].removeprefix("<")
    return json_response([entries[path] for path in fields.get("paths", []) if path in entries])


def _form(request: Request) -> dict[str, list[str]]:
    """The fields of a form or JSON body."""
    text = request.body.decode(errors="replace")
    if not request.headers.get("content-type", "").startswith("application/json"):
        return {name.removesuffix("[]"): values for name, values in parse_qs(text, keep_blank_values=True).items()}
    return {name: value if isinstance(value, list) else [str(value)] for name, value in json.loads(text).items()}
