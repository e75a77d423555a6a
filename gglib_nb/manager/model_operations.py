"""The operations on registered models, as calls that return a future at once: what is here, forget, delete, load.

A part of `operations`: the async port and its synchronous twins are made of these in the same way. What reads the disk
or the catalog runs on threads of its own here, never on the kernel's loop or on the queue's thread.
Its length is that of the list of operations, each stated once with its contract; what they do stands in the modules they call.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Final, TypeVar

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.checking import Repair, Verification
from gglib_nb.domain.deletion import Deletion, DiskUse
from gglib_nb.domain.download import DownloadRequest, PlannedDownload
from gglib_nb.domain.importing import ImportReport
from gglib_nb.domain.loading import loading_lines
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import ModelSummary, summary_of
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.updates import ModelUpdate, QueuedUpdate
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.engine.storage.gguf_facts import read_facts
from gglib_nb.errors import AlreadyQueuedError, ModelNotFoundError, StorageError
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.disk_space import disk_space_at
from gglib_nb.manager.file_checks import Checked, FileChecks
from gglib_nb.manager.futures import chain, gathered, then
from gglib_nb.manager.importing import Importer, OnImportProgress
from gglib_nb.manager.machine_memory import ram_bytes
from gglib_nb.manager.model_files import delete_files, look_at, plan_deletion
from gglib_nb.manager.model_plans import (
    bytes_to_fetch,
    faulty_paths,
    has_known_faults,
    is_same_version,
    refuse_unmendable,
    refuse_unupdatable,
    repair_plan,
    update_plan,
)
from gglib_nb.manager.queue_thread import QueueThread
from gglib_nb.manager.resolving import Resolver
from gglib_nb.manager.thread_pool import DaemonThreadPool
from gglib_nb.manager.update_check import check_update
from gglib_nb.manager.update_settling import is_settled, settle_update
from gglib_nb.manager.verifying import OnVerifyProgress, files_to_check, judged_files, progress_of, verifications
from gglib_nb.queue.effects import QueuePosition
from gglib_nb.settings import DownloadManagerConfig

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
        self,
        settings: DownloadManagerConfig,
        catalog: Catalog,
        hub: HubClient,
        thread: QueueThread,
        file_checks: FileChecks,
    ) -> None:
        self.settings: Final = settings
        self.hub: Final = hub
        self.catalog: Final = catalog
        self._thread: Final = thread
        self._file_checks: Final = file_checks
        self._resolver: Final = Resolver(hub, catalog, settings.models_directory, ram_bytes())
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

    def submit_import_folder(
        self, folder: "str | PathLike[str]", *, on_progress: OnImportProgress | None = None
    ) -> "Future[ImportReport]":
        """Registers the GGUF files that lie in a folder; nothing is moved, copied, hashed or asked of the Hub.

        The Hugging Face cache, LM Studio's and llama.cpp's folders tell which repository a file comes from; elsewhere it is
        `local/<name>`, unless a registered model has the same SHA-256. `verify` hashes what was imported.

        Args:
            folder: Looked through with all folders below it.
            on_progress: Called for each file whose header is read, on a thread of the manager's; it must not wait.

        Raises:
            StorageError: There is no such folder.
            CatalogError: The models database cannot be read or written.
        """
        place = Path(folder).expanduser().absolute()
        return self._with_models(lambda: self._import(place, on_progress))

    def _import(self, folder: Path, on_progress: OnImportProgress | None) -> ImportReport:
        importer = Importer(self.catalog.models(), time.time(), on_progress)
        importer.look_through(folder)
        for model in importer.models:
            self.catalog.register(model)
        looks = look_at({target for model in importer.models for target in model.targets})
        imported = tuple(summary_of(model, looks) for model in importer.models)
        return ImportReport(imported, tuple(importer.skipped))

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

    def submit_updates(self, id: IdLike | None = None) -> "Future[list[ModelUpdate]]":  # noqa: A002 - the port's word
        """What has become of models on the Hub since they came here, file by file. Touches nothing but the row's dates.

        A file of another SHA-256 is compared by its header and by a few samples: some kilobytes to a few megabytes each.

        Args:
            id: As for `path`; None: of all models.

        Raises:
            ModelNotFoundError: No model answers to the id.
            AmbiguousQuantizationError: Several do; `choices` has their ids.
            CatalogError: The models database cannot be read or written.
        """
        finding = self._with_models(lambda: self.catalog.models() if id is None else [self.catalog.find(id)])
        return chain(finding, lambda models: gathered([self._check(model) for model in models]))

    def submit_update(self, id: IdLike, *, keep: bool = False) -> "Future[QueuedUpdate]":  # noqa: A002 - the port's word
        """Queues a download of a model's new version, which takes the old one's place once all of it is verified.

        It is fetched beside the old one, and tensors that are the same are copied from there. Whoever has the old file open
        keeps it: replacing is a rename. `wait(id)` ends when the new version has the old one's names.

        Args:
            id: As for `path`.
            keep: Keep the old version too: it moves into `<owner>/<repo>/@<commit>/` and is found as
                `owner/repo@<commit>:QUANT`.

        Raises:
            ModelNotFoundError: No model answers to the id.
            RequestError: Nobody knows its repository, its files belong to another program, or the repository has no such
                variant any more; the text names those it has.
            AlreadyQueuedError: A download in the queue writes its files; cancel that first.
            QueueFullError: As many downloads wait as may.
            HubError: The Hub's answer is no, or there is none.
        """
        finding = self._with_models(lambda: self._updatable(id))
        return chain(finding, lambda model: self._update(model, keeps_old=keep))

    def _check(self, model: Model) -> "Future[ModelUpdate]":
        def check() -> ModelUpdate:
            update = check_update(self.hub, model)
            if update.has_update is not None and update.latest_commit_sha is not None:
                self.catalog.note_check(
                    model.id,
                    at_s=time.time(),
                    latest_commit_sha=update.latest_commit_sha,
                    has_update=update.has_update,
                )
            return update

        return self._with_hub(check)

    def _updatable(self, id_: IdLike) -> Model:
        model = self.catalog.find(id_)
        refuse_unupdatable(model, self.settings.models_directory)
        self._refuse_if_queued(model, "updated", may_update=True)
        return model

    def _update(self, model: Model, *, keeps_old: bool) -> "Future[QueuedUpdate]":
        def look() -> PlannedDownload | None:
            kinds = tuple(dict.fromkeys(file.kind for file in model.files if file.kind != "shard"))
            request = DownloadRequest(model.id.repo_id, model.id.quantization, model.id.revision, companions=kinds)
            fresh = self._resolver.resolve(request)
            if is_same_version(model, fresh):
                self.catalog.register(replace(self._settled(model), commit_sha=fresh.commit_sha))
                return None
            return update_plan(model, fresh, self.settings.models_directory, keeps_old=keeps_old)

        def queue(plan: PlannedDownload | None) -> "Future[QueuedUpdate]":
            if plan is None:
                return self._with_models(lambda: QueuedUpdate(str(model.id), False, model.commit_sha or "", 0, 0))
            queueing = self._queue_plan(str(model.id), lambda: plan)
            return then(
                queueing,
                lambda place: QueuedUpdate(str(model.id), True, plan.commit_sha, place.position, plan.size_bytes),
            )

        return chain(self._with_hub(look), queue)

    def _settled(self, model: Model) -> Model:
        """The model with the usual names of its files, where an update was interrupted after all of it was there."""
        folder = self.settings.models_directory
        if is_settled(folder, model):
            return model
        return replace(model, files=settle_update(self.catalog, model, folder, keeps_old=False))

    def _with_hub(self, call: Callable[[], _Result]) -> "Future[_Result]":
        """Has a call made on a thread for the Hub. The queue's side fills it in."""
        raise NotImplementedError

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

    def _refuse_if_queued(self, model: Model, what: str, *, may_update: bool = False) -> None:
        plan = self._thread.ask(lambda machine: machine.plan_about(model.id, model.targets)).result()
        if plan is not None and not (may_update and plan.is_update):
            raise AlreadyQueuedError(
                f"{plan.id} is in the queue and writes files of {model.id}, so that cannot be {what} now. "
                f"Cancel it first: %gguf cancel {plan.id}",
                str(plan.id),
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
