"""What each request of the panel's page asks of the manager.

Turns a parsed request into calls of the manager's operations, and their results into JSON values. Knows no widget.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.plan import RepoPlan, VariantPlan
from gglib_nb.domain.references import parse_pasted
from gglib_nb.errors import GglibError, NotInQueueError
from gglib_nb.notebook import fit_words
from gglib_nb.notebook.history_table import past_items
from gglib_nb.notebook.messages import Request, Suggestion, VariantChoice, VariantList, plain
from gglib_nb.notebook.model_actions import MODEL_ACTIONS, Tell

if TYPE_CHECKING:
    from gglib_nb.manager.manager import DownloadManager, SyncOperations

_MOST_SUGGESTIONS: Final = 8
_MOODS: Final[dict[fit_words.Mood, str]] = {
    "good": "good", "near": "warn", "slow": "warn", "bad": "bad", "plain": "plain",
}  # fmt: skip


def act(manager: "DownloadManager", request: Request, tell: Tell) -> Any:  # noqa: ANN401 - JSON values
    """Does what the request asks for; what the reply carries. Waits, so it belongs on a thread of the manager's.

    Args:
        manager: Whose queue and models.
        request: As it was parsed.
        tell: Sends the page the progress of what takes long.
    """
    if (about_model := MODEL_ACTIONS.get(request["kind"])) is not None:
        return about_model(manager.sync, request, tell)
    return _ACTIONS[request["kind"]](manager.sync, request)


def _about(operation: Callable[["SyncOperations", str], object]) -> Callable[["SyncOperations", Any], None]:
    def about(operations: "SyncOperations", request: Any) -> None:  # noqa: ANN401 - narrowed by its kind
        operation(operations, request["id"])

    return about


def _queue(operations: "SyncOperations", request: Any) -> Any:  # noqa: ANN401 - narrowed by its kind
    place = operations.queue_smart(
        request["repo_id"],
        request.get("quantization"),
        revision=request.get("revision"),
        companions=tuple(request.get("companions", ())),
    )
    if "position" in request:
        with suppress(NotInQueueError):  # one that has started meanwhile has no position; it is queued all the same
            operations.reorder_queue(str(place.id), request["position"])
    return {"id": str(place.id), "position": place.position}


def _variants(operations: "SyncOperations", request: Any) -> Any:  # noqa: ANN401 - as above
    wanted = parse_pasted(request["repo_id"])
    return _variant_list(operations.plan(wanted.repo_id, wanted.quantization, revision=wanted.revision))


def _variant_list(plan: RepoPlan) -> VariantList:
    shown = plan.recommended or next(iter(plan.variants), None)
    kinds = {companion.kind: companion.size_bytes for companion in shown.companions} if shown else {}
    return {
        "repo_id": plan.repo_id,
        "page_url": plan.page_url,
        "revision": plan.revision,
        "free_bytes": plan.free_bytes,
        "context_tokens": plan.context_tokens,
        "accept_url": None if plan.has_access else plan.accept_url,
        "variants": [_variant_choice(variant, plan) for variant in plan.variants],
        "companions": [{"kind": kind, "size_bytes": size} for kind, size in kinds.items()],
    }


def _variant_choice(variant: VariantPlan, plan: RepoPlan) -> VariantChoice:
    return {
        "key": str(variant.key),
        "label": plain(variant.label),
        "size_bytes": variant.size_bytes,
        "bytes_to_go": variant.bytes_to_go,
        "free_bytes_after": variant.free_bytes_after,
        "bits_per_weight": variant.bits_per_weight,
        "file_count": variant.shard_count,
        "fit": fit_words.short(variant.placement, plan.context_tokens),
        "mood": _MOODS[fit_words.mood(variant.placement)],
        "arguments": " ".join(variant.placement.arguments),
        "is_complete": variant.is_complete,
        "is_present": variant.is_present,
        "is_queued": variant.is_queued,
        "is_recommended": variant.is_recommended,
        "why": variant.why,
    }


def _suggestions(found: list[RepoSummary]) -> list[Suggestion]:
    return [
        {
            "repo_id": repo.repo_id,
            "page_url": repo.page_url,
            "downloads": repo.downloads,
            "parameter_count": repo.parameter_count,
            "likely_size_bytes": repo.likely_size_bytes,
            "fit": repo.fit,
            "is_here": repo.is_here,
            "is_gated": repo.gate is not None,
            "modified_at": repo.modified_at,
        }
        for repo in found
    ]


def _suggest(operations: "SyncOperations", request: Any) -> list[Suggestion]:  # noqa: ANN401 - as above
    found = operations.search(
        request["text"],
        max_parameters=request.get("max_parameters"),
        licence=request.get("licence"),
        task=request.get("task"),
        limit=_MOST_SUGGESTIONS,
    )
    return _suggestions(found)


def _retry_all(operations: "SyncOperations", _request: object) -> None:
    errors = []
    for failure in operations.get_queue_snapshot().recent_failures:
        try:
            operations.retry(str(failure.id))
        except GglibError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _move(operations: "SyncOperations", request: Any) -> None:  # noqa: ANN401 - as above
    operations.reorder_queue(request["id"], request["position"])


def _queue_partials(operations: "SyncOperations", _request: object) -> None:
    operations.queue_partials()


def _clear_history(operations: "SyncOperations", _request: object) -> None:
    operations.clear_history()


_ACTIONS: Final[Mapping[str, Callable[["SyncOperations", Any], Any]]] = {
    "queue": _queue,
    "variants": _variants,
    "suggest": _suggest,
    "cancel": _about(lambda operations, name: operations.cancel_download(name)),
    "remove": _about(lambda operations, name: operations.remove_from_queue(name)),
    "pause": _about(lambda operations, name: operations.pause(name)),
    "resume": _about(lambda operations, name: operations.resume(name)),
    "run_now": _about(lambda operations, name: operations.run_now(name)),
    "discard": _about(lambda operations, name: operations.cancel_download(name, discard=True)),
    "retry": _about(lambda operations, name: operations.retry(name)),
    "dismiss": _about(lambda operations, name: operations.clear_failed(name)),
    "retry_all": _retry_all,
    "move": _move,
    "pause_all": lambda operations, _: operations.pause_all(),
    "resume_all": lambda operations, _: operations.resume_all(),
    "clear_completed": lambda operations, _: operations.clear_ended("completed"),
    "clear_cancelled": lambda operations, _: operations.clear_ended("cancelled"),
    "cancel_all": lambda operations, _: operations.cancel_all(),
    "queue_partials": _queue_partials,
    "history": lambda operations, _: past_items(operations.history()),
    "clear_history": _clear_history,
    "clear_failed": lambda operations, _: operations.clear_failed(),
    "limit": lambda operations, request: operations.set_max_queue_size(request["max_size"]),
    "bandwidth": lambda operations, request: operations.set_bandwidth_limit(request["bytes_per_second"]),
    "concurrency": lambda operations, request: operations.set_max_concurrent(request["max_concurrent"]),
    "connections": lambda operations, request: operations.set_max_connections(request["max_connections"]),
    "hours": lambda operations, request: operations.set_download_hours(request["hours"]),
}
