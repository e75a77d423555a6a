"""The operations on registered models, as calls that return a future at once: what is here, forget, delete, load.

A part of `operations`: the async port and its synchronous twins are made of these in the same way. What reads the disk
or the catalog runs on threads of its own here, never on the kernel's loop or on the queue's thread.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.checking import Repair, Verification
from gglib_nb.domain.deletion import Deletion, DiskUse
from gglib_nb.domain.download import PlannedDownload
from gglib_nb.domain.loading import loading_lines
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import ModelSummary, summary_of
from gglib_nb.domain.references import DownloadId
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.engine.storage.gguf_facts import read_facts
from gglib_nb.errors import AlreadyQueuedError, ModelNotFoundError, StorageError
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.disk_space import disk_space_at
from gglib_nb.manager.file_checks import Checked, FileChecks
from gglib_nb.manager.futures import chain, then
from gglib_nb.manager.model_files import delete_files, look_at, plan_deletion
from gglib_nb.manager.model_plans import bytes_to_fetch, faulty_paths, has_known_faults, refuse_unmendable, repair_plan
from gglib_nb.manager.queue_thread import QueueThread
from gglib_nb.manager.thread_pool import DaemonThreadPool
from gglib_nb.manager.verifying import OnVerifyProgress, files_to_check, judged_files, progress_of, verifications
from gglib_nb.queue.effects import QueuePosition
from gglib_nb.settings import Settings

_THREADS: Final = 2

_Result = TypeVar("_Result")
IdLike = DownloadId | str


class ModelOperations:
    """What can be asked of registered models.

    Attributes:
        settings: Of the manager.
        catalog: The models database.
        hub: Who is asked for listings and parts of files.
    """

    def __init__(
        self, settings: Settings, catalog: Catalog, hub: HubClient, thread: QueueThread, file_checks: FileChecks
    ) -> None:
        self.settings: Final = settings
        self.hub: Final = hub
        self.catalog: Final = catalog
        self._thread: Final = thread
        self._file_checks: Final = file_checks
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

    def submit_verify(
        self,
        id: IdLike,  # noqa: A002 - the port's word
        *,
        on_progress: OnVerifyProgress | None = None,
    ) -> "Future[Verification]":
        """Hashes a model's files anew and writes down what came out; `is_right` of the result says whether all is well.

        The engine's process hashes, so that a cell that computes does not slow it. Cancelling ends it; what was known
        of the model stays. `faults` of the result names the files that are not right, and which of their bytes.

        Args:
            id: As for `path`.
            on_progress: Called up to ten times a second on a thread of the manager's; it must not wait.

        Raises:
            ModelNotFoundError: No model answers to the id.
            AmbiguousQuantizationError: Several do; `choices` has their ids.
            EngineLostError: The engine's process ended meanwhile; verify again.
            CatalogError: The models database cannot be read or written.
        """
        found = self._with_models(lambda: [self.catalog.find(id)])
        return then(chain(found, lambda models: self._verify(models, on_progress)), lambda results: results[0])

    def submit_verify_all(self, *, on_progress: OnVerifyProgress | None = None) -> "Future[list[Verification]]":
        """Hashes the files of all registered models anew, each file once; otherwise as `verify`."""
        found = self._with_models(self.catalog.models)
        return chain(found, lambda models: self._verify(models, on_progress))

    def submit_repair(
        self,
        id: IdLike,  # noqa: A002 - the port's word
        *,
        on_progress: OnVerifyProgress | None = None,
    ) -> "Future[Repair]":
        """Finds out what of a model is wrong, unless that is known, and queues a download of just that.

        The damaged file stays as it is until the mended one beside it has the SHA-256 of the Hub; then that takes its
        name. Whoever has the old one open keeps it. `wait(id)` ends when it is done.

        Args:
            id: As for `path`.
            on_progress: As for `verify`.

        Raises:
            RequestError: Nobody knows the model's repository, or its files belong to the Hugging Face cache.
            RemoteChangedError: The Hub has not this version any more; `update` fetches the present one.
            HubError: The Hub's answer is no, or there is none.
            QueueFullError: As many downloads wait as may.
            AlreadyQueuedError: A download in the queue writes one of its files; cancel that first.
            EngineLostError: As `verify`.
        """
        mendable = self._with_models(lambda: self._mendable(id))
        return chain(chain(mendable, lambda model: self._faulty(model, on_progress)), self._mend)

    def _mendable(self, id_: IdLike) -> Model:
        model = self.catalog.find(id_)
        refuse_unmendable(model)
        self._refuse_if_queued(model, "mended")
        return model

    def _faulty(self, model: Model, on_progress: OnVerifyProgress | None) -> "Future[Model]":
        """The model with its faults written down: as they are known, or found now."""
        if has_known_faults(model, look_at(model.targets)):
            return self._with_models(lambda: model)
        return chain(
            self._verify([model], on_progress), lambda _: self._with_models(lambda: self.catalog.find(model.id))
        )

    def _mend(self, model: Model) -> "Future[Repair]":
        looks = look_at(model.targets)
        faulty = faulty_paths(model, looks)
        if not faulty:
            return self._with_models(lambda: Repair(str(model.id), False, (), 0, 0))
        planned: list[PlannedDownload] = []

        def plan() -> PlannedDownload:
            listing = self.hub.list_files(model.id.repo_id, model.commit_sha or model.id.revision)
            planned.append(repair_plan(model, listing, self.settings.models_directory))
            return planned[-1]

        def queued(place: QueuePosition) -> Repair:
            size = bytes_to_fetch(planned[-1], looks)
            return Repair(str(model.id), True, faulty, size, place.position)

        return then(self._queue_plan(str(model.id), plan), queued)

    def _queue_plan(self, text: str, plan: Callable[[], PlannedDownload]) -> "Future[QueuePosition]":
        """Has a download made from a plan that is worked out on a thread for the Hub. The queue's side fills it in."""
        raise NotImplementedError

    def _verify(self, models: list[Model], on_progress: OnVerifyProgress | None) -> "Future[list[Verification]]":
        looking = self._with_models(lambda: files_to_check(models, self.catalog.block_digests))

        def check(files: list[FileToCheck]) -> "Future[Checked]":
            return self._file_checks.check(files, progress_of(models, files, on_progress))

        def judge(checked: Checked) -> "Future[list[Verification]]":
            return self._with_models(lambda: self._write_down(models, checked))

        return chain(chain(looking, check), judge)

    def _write_down(self, models: list[Model], checked: Checked) -> list[Verification]:
        self.catalog.update_files(judged_files(models, checked, time.time()))
        return verifications(models, checked)

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
        self._refuse_if_queued(model, "deleted")
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

    def _refuse_if_queued(self, model: Model, what: str) -> None:
        writer = self._thread.ask(lambda machine: machine.writer_of(model.targets)).result()
        if writer is not None:
            raise AlreadyQueuedError(
                f"{writer} is in the queue and writes files of {model.id}, so that cannot be {what} now. "
                f"Cancel it first: %gguf cancel {writer}",
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
