"""The operations on registered models, as calls that return a future at once: what is here, forget, delete, load.

A part of `operations`: the async port and its synchronous twins are made of these in the same way. What reads the disk
or the catalog runs on threads of its own here, never on the kernel's loop or on the queue's thread.
"""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.deletion import Deletion, DiskUse
from gglib_nb.domain.loading import loading_lines
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import ModelSummary, summary_of
from gglib_nb.domain.references import DownloadId
from gglib_nb.engine.storage.gguf_facts import read_facts
from gglib_nb.errors import AlreadyQueuedError, ModelNotFoundError, StorageError
from gglib_nb.manager.disk_space import disk_space_at
from gglib_nb.manager.model_files import delete_files, look_at, plan_deletion
from gglib_nb.manager.queue_thread import QueueThread
from gglib_nb.manager.thread_pool import DaemonThreadPool
from gglib_nb.settings import Settings

_THREADS: Final = 2

_Result = TypeVar("_Result")
IdLike = DownloadId | str


class ModelOperations:
    """What can be asked of registered models.

    Attributes:
        settings: Of the manager.
        catalog: The models database.
    """

    def __init__(self, settings: Settings, catalog: Catalog, thread: QueueThread) -> None:
        self.settings: Final = settings
        self.catalog: Final = catalog
        self._thread: Final = thread
        self._model_workers: Final = DaemonThreadPool("gglib-models", _THREADS)

    def submit_models(self) -> "Future[list[ModelSummary]]":
        """The registered models, the newest first, and whether their files stand as they were recorded.

        Nothing is hashed and nobody is asked. `pandas.DataFrame(rows)` has a column for each field.

        Raises:
            CatalogError: The models database cannot be read.
        """
        return self._with_models(self._summaries)

    def submit_disk_use(self) -> "Future[DiskUse]":
        """How much of the disk the registered models take, and how much is left.

        Raises:
            CatalogError: The models database cannot be read.
        """
        return self._with_models(self._disk_use)

    def submit_path(self, id: IdLike) -> "Future[Path]":  # noqa: A002 - the port's word
        """The file of a registered model that a program opens: its first shard. Nothing is asked of the Hub.

        Raises:
            ModelNotFoundError: No model answers to the id, or its file is gone.
            AmbiguousQuantizationError: Several do; `choices` has their ids.
            CatalogError: The models database cannot be read.
        """
        return self._with_models(lambda: path_of(self.catalog, id))

    def submit_loading_lines(self, id: IdLike, program: str) -> "Future[str]":  # noqa: A002 - the port's word
        """The lines that load a registered model into a program.

        Args:
            id: As for `path`.
            program: `llama-cpp-python`, `llama-server`, `ollama` or `lmstudio`.

        Raises:
            RequestError: There is no such program here.
            ModelNotFoundError: No model answers to the id.
            AmbiguousQuantizationError: Several do; `choices` has their ids.
        """
        return self._with_models(lambda: loading_lines(self.catalog.find(id), program))

    def submit_forget(self, id: IdLike) -> "Future[None]":  # noqa: A002 - the port's word
        """Takes a model off the list; its files stay where they are.

        Raises:
            ModelNotFoundError: No model answers to the id.
            AmbiguousQuantizationError: Several do; `choices` has their ids.
        """
        return self._with_models(lambda: self._forget(id))

    def submit_delete(self, id: IdLike, *, dry_run: bool = False) -> "Future[Deletion]":  # noqa: A002 - the port's word
        """Deletes a model's files and takes it off the list. A file that another registered model uses stays.

        Args:
            id: As for `path`.
            dry_run: Only say what would go and what that would free.

        Raises:
            ModelNotFoundError: No model answers to the id.
            AmbiguousQuantizationError: Several do; `choices` has their ids.
            AlreadyQueuedError: A download in the queue writes one of its files; cancel that first.
            StorageError: A file cannot be deleted, or belongs to the Hugging Face cache. The model stays on the list.
        """
        return self._with_models(lambda: self._delete(id, dry_run=dry_run))

    # On the threads of the models --------------------------------------------------------------------------------

    def _with_models(self, call: Callable[[], _Result]) -> "Future[_Result]":
        return self._model_workers.submit(call)

    def _summaries(self) -> list[ModelSummary]:
        models = [self._with_counted_parameters(model) for model in self.catalog.models()]
        looks = look_at({file.target for model in models for file in model.files})
        return [summary_of(model, looks) for model in models]

    def _with_counted_parameters(self, model: Model) -> Model:
        """The model with the tensors of each shard counted, which rows of earlier versions lack; written down once."""
        if model.parameter_count is not None or len(model.shards) < 2:
            return model
        if any("tensor_parameters" in file.facts for file in model.shards):
            return model
        counted = tuple(replace(file, facts=read_facts(Path(file.target)) or file.facts) for file in model.files)
        self.catalog.update_files(counted)
        return replace(model, files=counted)

    def _disk_use(self) -> DiskUse:
        sizes = {file.target: file.size_bytes for model in self.catalog.models() for file in model.files}
        folder = self.settings.models_directory
        return DiskUse(sum(sizes.values()), disk_space_at(folder).free_bytes, str(folder))

    def _forget(self, id_: IdLike) -> None:
        self.catalog.forget(id_)

    def _delete(self, id_: IdLike, *, dry_run: bool) -> Deletion:
        model = self.catalog.find(id_)
        others = [other for other in self.catalog.models() if other.id != model.id]
        plan = plan_deletion(model, others)
        self._refuse_if_queued(model)
        if model.hosts and not plan.deleted:
            hosts = ", ".join(host.host for host in model.hosts)
            raise StorageError(
                f"The files of {model.id} are on {hosts} and not to be seen from here. Delete them there; "
                f"`%gguf forget {model.id}` takes it off the list."
            )
        if dry_run:
            return plan
        delete_files(plan.deleted, self.settings.models_directory)
        self.catalog.forget(model.id)
        return replace(plan, is_dry_run=False)

    def _refuse_if_queued(self, model: Model) -> None:
        writer = self._thread.ask(lambda machine: machine.writer_of(model.targets)).result()
        if writer is not None:
            raise AlreadyQueuedError(
                f"{writer} is in the queue and writes files of {model.id}. Cancel it first: %gguf cancel {writer}",
                str(writer),
            )


def path_of(catalog: Catalog, id_: IdLike) -> Path:
    """The file of a registered model that a program opens.

    Raises:
        ModelNotFoundError: No model answers to the id, or its file is gone.
        AmbiguousQuantizationError: Several do; `choices` has their ids.
    """
    model = catalog.find(id_)
    path = Path(model.paths[0])
    if not path.is_file() and not model.hosts:  # where a cluster's host has it, the path is that host's
        raise ModelNotFoundError(
            f"The file of {model.id} is gone from {path}. `%gguf queue {model.id}` fetches it again, "
            f"`%gguf forget {model.id}` takes it off the list."
        )
    return path
