"""What the panel's requests about models that are here ask of the manager. Part of `actions`, in the same manner."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import Any, Final, Protocol

from gglib_nb.domain.deletion import Deletion, DiskUse
from gglib_nb.domain.loading import PROGRAMS
from gglib_nb.domain.model_summary import ModelSummary
from gglib_nb.notebook.futures import both, gathered, mapped, nothing
from gglib_nb.notebook.messages import DeletionReport, LoadingLines, ModelItem, ModelList


class ModelsManager(Protocol):
    """What the panel needs of a manager for its models. Every `submit_…` may be called on any thread."""

    def submit_models(self) -> Future[list[ModelSummary]]:
        """The registered models, the newest first."""

    def submit_disk_use(self) -> Future[DiskUse]:
        """What they take, and what is free."""

    def submit_loading_lines(self, model_id: str, program: str, /) -> Future[str]:
        """The lines that load one into a program."""

    def submit_forget(self, model_id: str, /) -> Future[None]:
        """Takes one off the list."""

    def submit_delete(self, model_id: str, /, *, dry_run: bool = False) -> Future[Deletion]:
        """Deletes one, or says what that would take."""


def _models(manager: ModelsManager, _request: Any) -> Future[Any]:  # noqa: ANN401 - narrowed by its kind
    return mapped(both(manager.submit_models(), manager.submit_disk_use()), lambda found: model_list(*found))


def model_list(models: list[ModelSummary], use: DiskUse) -> ModelList:
    """The models and the disk as the page takes them."""
    return {
        "models": [_item(model) for model in models],
        "models_bytes": use.models_bytes,
        "free_bytes": use.free_bytes,
        "models_directory": use.models_directory,
    }


def _item(model: ModelSummary) -> ModelItem:
    return asdict(model)  # type: ignore[return-value]  # a test compares the fields


def _loading(manager: ModelsManager, request: Any) -> Future[Any]:  # noqa: ANN401 - as above
    asked = [manager.submit_loading_lines(request["id"], program) for program in PROGRAMS]
    return mapped(gathered(asked), _programs)


def _programs(texts: list[str]) -> list[LoadingLines]:
    return [{"program": program, "text": text} for program, text in zip(PROGRAMS, texts, strict=True)]


def _delete(manager: ModelsManager, request: Any, *, dry_run: bool) -> Future[Any]:  # noqa: ANN401 - as above
    return mapped(manager.submit_delete(request["id"], dry_run=dry_run), _report)


def _report(deletion: Deletion) -> DeletionReport:
    return asdict(deletion)  # type: ignore[return-value]  # a test compares the fields


MODEL_ACTIONS: Final[Mapping[str, Callable[[Any, Any], Future[Any]]]] = {
    "models": _models,
    "loading": _loading,
    "forget": lambda manager, request: mapped(manager.submit_forget(request["id"]), nothing),
    "delete_preview": partial(_delete, dry_run=True),
    "delete_model": partial(_delete, dry_run=False),
}
