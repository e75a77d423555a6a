"""What the panel's requests about models that are here ask of the manager. Part of `actions`, in the same manner."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import Any, Final, Protocol

from gglib_nb.domain.checking import CheckedFile, Repair, Verification, VerifyProgress
from gglib_nb.domain.deletion import Deletion, DiskUse
from gglib_nb.domain.loading import PROGRAMS
from gglib_nb.domain.model_summary import ModelSummary
from gglib_nb.domain.updates import ModelUpdate, QueuedUpdate
from gglib_nb.manager.futures import both, gathered, then
from gglib_nb.notebook.messages import (
    CheckedItem,
    DeletionReport,
    LoadingLines,
    ModelAnswer,
    ModelItem,
    ModelList,
    VerifyReport,
    VerifyState,
    plain,
)
from gglib_nb.notebook.model_table import repaired, verified
from gglib_nb.notebook.update_table import in_words, updating

Tell = Callable[[VerifyState], None]
"""Sends the page a message that is no answer yet."""


class ModelsManager(Protocol):
    """What the panel needs of a manager for its models. Every `submit_…` may be called on any thread."""

    def submit_models(self) -> Future[list[ModelSummary]]:
        """The registered models, the newest first."""

    def submit_disk_use(self) -> Future[DiskUse]:
        """What they take, and what is free."""

    def submit_loading_lines(self, model_id: str, program: str, /) -> Future[str]:
        """The lines that load one into a program."""

    def submit_verify(self, model_id: str, /, *, on_progress: Callable[[VerifyProgress], None]) -> Future[Verification]:
        """Hashes one's files; tells how far it is on a thread of its own."""

    def submit_repair(self, model_id: str, /, *, on_progress: Callable[[VerifyProgress], None]) -> Future[Repair]:
        """Finds out what is wrong of one and queues a download of that."""

    def submit_updates(self, model_id: str, /) -> Future[list[ModelUpdate]]:
        """What has become of one on the Hub."""

    def submit_update(self, model_id: str, /) -> Future[QueuedUpdate]:
        """Queues a download of its new version."""

    def submit_forget(self, model_id: str, /) -> Future[None]:
        """Takes one off the list."""

    def submit_delete(self, model_id: str, /, *, dry_run: bool = False) -> Future[Deletion]:
        """Deletes one, or says what that would take."""


def _models(manager: ModelsManager, _request: Any) -> Future[Any]:  # noqa: ANN401 - narrowed by its kind
    return then(both(manager.submit_models(), manager.submit_disk_use()), lambda found: model_list(*found))


def model_list(models: list[ModelSummary], use: DiskUse) -> ModelList:
    """The models and the disk as the page takes them."""
    return {
        "models": [_item(model) for model in models],
        "models_bytes": use.models_bytes,
        "free_bytes": use.free_bytes,
        "models_directory": use.models_directory,
    }


def _item(model: ModelSummary) -> ModelItem:
    # A test compares the fields.
    return asdict(model) | {"quantization": plain(model.quantization)}  # type: ignore[return-value]


def _loading(manager: ModelsManager, request: Any) -> Future[Any]:  # noqa: ANN401 - as above
    asked = [manager.submit_loading_lines(request["id"], program) for program in PROGRAMS]
    return then(gathered(asked), _programs)


def _programs(texts: list[str]) -> list[LoadingLines]:
    return [{"program": program, "text": text} for program, text in zip(PROGRAMS, texts, strict=True)]


def _delete(manager: ModelsManager, request: Any, *, dry_run: bool) -> Future[Any]:  # noqa: ANN401 - as above
    return then(manager.submit_delete(request["id"], dry_run=dry_run), _report)


def _report(deletion: Deletion) -> DeletionReport:
    return asdict(deletion)  # type: ignore[return-value]  # a test compares the fields


def _teller(request: Any, tell: Tell) -> Callable[[VerifyProgress], None]:  # noqa: ANN401 - as above
    def progressed(progress: VerifyProgress) -> None:
        tell(
            {
                "kind": "verify_progress",
                "cid": request["cid"],
                "id": progress.id,
                "done_bytes": progress.done_bytes,
                "total_bytes": progress.total_bytes,
            }
        )

    return progressed


def _verify(manager: ModelsManager, request: Any, tell: Tell) -> Future[Any]:  # noqa: ANN401 - as above
    return then(manager.submit_verify(request["id"], on_progress=_teller(request, tell)), _verify_report)


def _repair(manager: ModelsManager, request: Any, tell: Tell) -> Future[Any]:  # noqa: ANN401 - as above
    def answer(repair: Repair) -> ModelAnswer:
        return {"id": repair.id, "is_needed": repair.is_needed, "text": repaired(repair)}

    return then(manager.submit_repair(request["id"], on_progress=_teller(request, tell)), answer)


def _check_update(manager: ModelsManager, request: Any) -> Future[Any]:  # noqa: ANN401 - as above
    def answer(found: list[ModelUpdate]) -> ModelAnswer:
        return {"id": found[0].id, "is_needed": found[0].has_update is True, "text": in_words(found[0])}

    return then(manager.submit_updates(request["id"]), answer)


def _update(manager: ModelsManager, request: Any) -> Future[Any]:  # noqa: ANN401 - as above
    def answer(update: QueuedUpdate) -> ModelAnswer:
        return {"id": update.id, "is_needed": update.is_needed, "text": updating(update)}

    return then(manager.submit_update(request["id"]), answer)


def _verify_report(verification: Verification) -> VerifyReport:
    return {
        "id": verification.id,
        "is_right": verification.is_right,
        "text": verified(verification),
        "files": [_checked(file) for file in verification.files],
    }


def _checked(file: CheckedFile) -> CheckedItem:
    return {
        "path": file.path,
        "verdict": file.verdict,
        "wrong_ranges": None if file.wrong_ranges is None else list(file.wrong_ranges),
        "reason": file.reason,
    }


def _nothing(_result: object) -> None:
    return None


def _quietly(act: Callable[[ModelsManager, Any], Future[Any]]) -> Callable[[ModelsManager, Any, Tell], Future[Any]]:
    return lambda manager, request, _tell: act(manager, request)


MODEL_ACTIONS: Final[Mapping[str, Callable[[ModelsManager, Any, Tell], Future[Any]]]] = {
    "models": _quietly(_models),
    "loading": _quietly(_loading),
    "verify": _verify,
    "repair": _repair,
    "check_update": _quietly(_check_update),
    "update": _quietly(_update),
    "forget": _quietly(lambda manager, request: then(manager.submit_forget(request["id"]), _nothing)),
    "delete_preview": _quietly(partial(_delete, dry_run=True)),
    "delete_model": _quietly(partial(_delete, dry_run=False)),
}
