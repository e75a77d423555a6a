"""What each request of the panel's page asks of the manager.

Turns a parsed request into one future whose result can be sent as JSON. Knows no widget and no thread: the manager's
`submit_…` calls return at once, on whatever thread they are made.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol

from gglib_nb.domain.download import QueueSnapshot
from gglib_nb.domain.history import PastDownload
from gglib_nb.domain.listing import RepoSummary
from gglib_nb.domain.plan import RepoPlan, VariantPlan
from gglib_nb.domain.references import parse_pasted
from gglib_nb.manager.futures import gathered, then
from gglib_nb.notebook.history_table import past_items
from gglib_nb.notebook.messages import Request, Suggestion, VariantChoice, VariantList, plain
from gglib_nb.notebook.model_actions import MODEL_ACTIONS, ModelsManager, Tell

_MOST_SUGGESTIONS: Final = 8


class PanelManager(ModelsManager, Protocol):
    """What the panel needs of a manager. Every `submit_…` may be called on any thread."""

    @property
    def snapshot(self) -> QueueSnapshot:
        """The queue as it is now."""

    def subscribe(self, listener: Callable[[QueueSnapshot], None], /) -> Callable[[], None]:
        """Calls the listener at most 10 times a second, and once for the last change. Returns what ends it."""

    def submit_queue_smart(
        self,
        repo_id: str,
        quantization: str | None = None,
        *,
        revision: str | None = None,
        companions: tuple[str, ...] = (),
    ) -> Future[Any]:
        """Chooses, queues and runs. The result has `.id` and `.position`."""

    def submit_plan(
        self, repo_id: str, quantization: str | None = None, *, revision: str | None = None
    ) -> Future[RepoPlan]:
        """What a repository offers, queueing nothing."""

    def submit_search(
        self,
        words: str,
        *,
        max_parameters: int | None = None,
        licence: str | None = None,
        task: str | None = None,
        limit: int = 20,
    ) -> Future[list[RepoSummary]]:
        """Repositories with GGUF files that answer to the words."""

    def submit_cancel_download(self, download_id: str, /) -> Future[Any]:
        """Cancels one, keeping its bytes."""

    def submit_cancel_all(self) -> Future[Any]:
        """Cancels everything active and queued."""

    def submit_remove_from_queue(self, download_id: str, /) -> Future[Any]:
        """Takes a pending one out."""

    def submit_reorder_queue(self, download_id: str, new_position: int, /) -> Future[Any]:
        """Moves a pending one; 1 is next to run."""

    def submit_pause(self, download_id: str, /) -> Future[Any]:
        """Pauses one."""

    def submit_resume(self, download_id: str, /) -> Future[Any]:
        """Resumes a paused one."""

    def submit_run_now(self, download_id: str, /) -> Future[Any]:
        """Runs a waiting one now."""

    def submit_pause_all(self) -> Future[Any]:
        """Pauses everything."""

    def submit_resume_all(self) -> Future[Any]:
        """Resumes everything that is paused."""

    def submit_clear_ended(self, status: str, /) -> Future[Any]:
        """Takes what ended so off the lists."""

    def submit_discard(self, download_id: str, /) -> Future[Any]:
        """Deletes what a cancelled or failed one left."""

    def submit_retry(self, download_id: str, /) -> Future[Any]:
        """Queues a failed one again."""

    def submit_clear_failed(self, download_id: str | None = None, /) -> Future[Any]:
        """Takes one off the failures; empties them where None."""

    def submit_queue_partials(self) -> Future[Any]:
        """Queues what partial files lie about."""

    def submit_history(self) -> Future[list[PastDownload]]:
        """What ended, the newest first."""

    def submit_clear_history(self) -> Future[int]:
        """Forgets that."""

    def submit_set_max_queue_size(self, n: int, /) -> Future[Any]:
        """How many may wait."""

    def submit_set_bandwidth_limit(self, n: int | None, /) -> Future[Any]:
        """Bytes per second for all together; None lifts it."""

    def submit_set_max_concurrent(self, n: int, /) -> Future[Any]:
        """How many may run at once."""

    def submit_set_max_connections(self, n: int, /) -> Future[Any]:
        """How many connections all together may hold."""

    def submit_set_download_hours(self, hours: str | None, /) -> Future[Any]:
        """Hours of the day in which downloads run; None at any time."""


def start(manager: PanelManager, request: Request, tell: Tell) -> Future[Any]:
    """Does what the request asks for.

    Args:
        manager: Who is asked.
        request: As it was parsed.
        tell: Sends the page how far it is, of what takes long.

    Returns:
        Settled when the manager has answered: with what the reply carries (JSON values), or with its error.
    """
    if (act := MODEL_ACTIONS.get(request["kind"])) is not None:
        return act(manager, request, tell)
    return _ACTIONS[request["kind"]](manager, request)


def _about(operation: Callable[[PanelManager, str], Future[Any]]) -> Callable[[PanelManager, Any], Future[Any]]:
    return lambda manager, request: then(operation(manager, request["id"]), _nothing)


def _queue(manager: PanelManager, request: Any) -> Future[Any]:  # noqa: ANN401 - narrowed by its kind
    future = manager.submit_queue_smart(
        request["repo_id"],
        request.get("quantization"),
        revision=request.get("revision"),
        companions=tuple(request.get("companions", ())),
    )
    if "position" in request:
        future = _at_position(manager, future, request["position"])
    return then(future, lambda place: {"id": str(place.id), "position": place.position})


def _at_position(manager: PanelManager, queued: Future[Any], position: int) -> Future[Any]:
    """The same result, once the download was moved there."""
    answer: Future[Any] = Future()

    def move(done: Future[Any]) -> None:
        try:
            place = done.result()
            moving = manager.submit_reorder_queue(str(place.id), position)
        except Exception as error:  # noqa: BLE001 - handed on to who waits for the answer
            answer.set_exception(error)
        else:
            # One that has started meanwhile has no position any more; it is queued all the same.
            moving.add_done_callback(lambda _moved: answer.set_result(place))

    queued.add_done_callback(move)
    return answer


def _variants(manager: PanelManager, request: Any) -> Future[Any]:  # noqa: ANN401 - as above
    wanted = parse_pasted(request["repo_id"])
    return then(manager.submit_plan(wanted.repo_id, wanted.quantization, revision=wanted.revision), _variant_list)


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
        "variants": [_variant_choice(variant) for variant in plan.variants],
        "companions": [{"kind": kind, "size_bytes": size} for kind, size in kinds.items()],
    }


def _variant_choice(variant: VariantPlan) -> VariantChoice:
    return {
        "key": str(variant.key),
        "label": plain(variant.label),
        "size_bytes": variant.size_bytes,
        "bytes_to_go": variant.bytes_to_go,
        "free_bytes_after": variant.free_bytes_after,
        "bits_per_weight": variant.bits_per_weight,
        "file_count": variant.shard_count,
        "ram_fit": variant.ram_fit,
        "vram_fit": variant.vram_fit,
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


def _nothing(_result: object) -> None:
    return None


_ACTIONS: Final[Mapping[str, Callable[[PanelManager, Any], Future[Any]]]] = {
    "queue": _queue,
    "variants": _variants,
    "suggest": lambda manager, request: then(
        manager.submit_search(
            request["text"],
            max_parameters=request.get("max_parameters"),
            licence=request.get("licence"),
            task=request.get("task"),
            limit=_MOST_SUGGESTIONS,
        ),
        _suggestions,
    ),
    "cancel": _about(lambda manager, name: manager.submit_cancel_download(name)),
    "remove": _about(lambda manager, name: manager.submit_remove_from_queue(name)),
    "pause": _about(lambda manager, name: manager.submit_pause(name)),
    "resume": _about(lambda manager, name: manager.submit_resume(name)),
    "run_now": _about(lambda manager, name: manager.submit_run_now(name)),
    "discard": _about(lambda manager, name: manager.submit_discard(name)),
    "retry": _about(lambda manager, name: manager.submit_retry(name)),
    "dismiss": _about(lambda manager, name: manager.submit_clear_failed(name)),
    "retry_all": lambda manager, _: then(
        gathered([manager.submit_retry(str(item.id)) for item in manager.snapshot.recent_failures]), _nothing
    ),
    "move": lambda manager, request: then(manager.submit_reorder_queue(request["id"], request["position"]), _nothing),
    "pause_all": lambda manager, _: then(manager.submit_pause_all(), _nothing),
    "resume_all": lambda manager, _: then(manager.submit_resume_all(), _nothing),
    "clear_completed": lambda manager, _: then(manager.submit_clear_ended("completed"), _nothing),
    "clear_cancelled": lambda manager, _: then(manager.submit_clear_ended("cancelled"), _nothing),
    "cancel_all": lambda manager, _: then(manager.submit_cancel_all(), _nothing),
    "queue_partials": lambda manager, _: then(manager.submit_queue_partials(), _nothing),
    "history": lambda manager, _: then(manager.submit_history(), past_items),
    "clear_history": lambda manager, _: then(manager.submit_clear_history(), _nothing),
    "clear_failed": lambda manager, _: then(manager.submit_clear_failed(), _nothing),
    "limit": lambda manager, request: then(manager.submit_set_max_queue_size(request["max_size"]), _nothing),
    "bandwidth": lambda manager, request: then(
        manager.submit_set_bandwidth_limit(request["bytes_per_second"]), _nothing
    ),
    "concurrency": lambda manager, request: then(
        manager.submit_set_max_concurrent(request["max_concurrent"]), _nothing
    ),
    "connections": lambda manager, request: then(
        manager.submit_set_max_connections(request["max_connections"]), _nothing
    ),
    "hours": lambda manager, request: then(manager.submit_set_download_hours(request["hours"]), _nothing),
}
