"""What the panel's requests about models that are here ask of the manager. Part of `actions`, in the same manner."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gglib_nb.domain.checking import CheckedFile, Verification, VerifyProgress
from gglib_nb.domain.deletion import Deletion, DiskUse
from gglib_nb.domain.loading import PROGRAMS
from gglib_nb.domain.model_summary import ModelSummary
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

if TYPE_CHECKING:
    from gglib_nb.manager.manager import SyncOperations

Tell = Callable[[VerifyState], None]
"""Sends the page a message that is no answer yet."""


def _models(operations: "SyncOperations", _request: object, _tell: Tell) -> ModelList:
    return model_list(operations.models(), operations.disk_use())


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


def _loading(operations: "SyncOperations", request: Any, _tell: Tell) -> list[LoadingLines]:  # noqa: ANN401 - narrowed by its kind
    return [{"program": program, "text": operations.loading_lines(request["id"], program)} for program in PROGRAMS]


def _delete(operations: "SyncOperations", request: Any, _tell: Tell, *, dry_run: bool) -> DeletionReport:  # noqa: ANN401 - as above
    return _report(operations.delete(request["id"], dry_run=dry_run))


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


def _verify(operations: "SyncOperations", request: Any, tell: Tell) -> VerifyReport:  # noqa: ANN401 - as above
    return _verify_report(operations.verify(request["id"], on_progress=_teller(request, tell)))


def _repair(operations: "SyncOperations", request: Any, tell: Tell) -> ModelAnswer:  # noqa: ANN401 - as above
    repair = operations.repair(request["id"], on_progress=_teller(request, tell))
    return {"id": repair.id, "is_needed": repair.is_needed, "text": repaired(repair)}


def _check_update(operations: "SyncOperations", request: Any, _tell: Tell) -> ModelAnswer:  # noqa: ANN401 - as above
    [found] = operations.updates(request["id"])
    return {"id": found.id, "is_needed": found.has_update is True, "text": in_words(found)}


def _update(operations: "SyncOperations", request: Any, _tell: Tell) -> ModelAnswer:  # noqa: ANN401 - as above
    update = operations.update(request["id"])
    return {"id": update.id, "is_needed": update.is_needed, "text": updating(update)}


def _forget(operations: "SyncOperations", request: Any, _tell: Tell) -> None:  # noqa: ANN401 - as above
    operations.forget(request["id"])


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


MODEL_ACTIONS: Final[Mapping[str, Callable[["SyncOperations", Any, Tell], Any]]] = {
    "models": _models,
    "loading": _loading,
    "verify": _verify,
    "repair": _repair,
    "check_update": _check_update,
    "update": _update,
    "forget": _forget,
    "delete_preview": partial(_delete, dry_run=True),
    "delete_model": partial(_delete, dry_run=False),
}
