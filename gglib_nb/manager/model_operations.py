"""The operations on registered models and their files, each a blocking function; its callees do the work."""

import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Final

from gglib_nb.domain.download import DownloadRequest
from gglib_nb.domain.importing import ImportReport
from gglib_nb.domain.library import (
    Deletion,
    DiskUse,
    Leftover,
    ModelUpdate,
    ModelUse,
    OnWorkProgress,
    PrunePlan,
    QueuedUpdate,
    Repair,
    Verification,
    by_age,
    plan_pruning,
)
from gglib_nb.domain.loading import PresetFile, loading_lines
from gglib_nb.domain.model import Model, ModelSummary, last_use_s, state_of, summary_of
from gglib_nb.domain.names import DownloadId
from gglib_nb.domain.references import refuse_beginning
from gglib_nb.domain.snapshot import ElsewhereDownload
from gglib_nb.engine.disk import storage_errors
from gglib_nb.engine.local import discard_leftovers, leftovers
from gglib_nb.errors import (
    AlreadyQueuedError,
    CatalogError,
    GglibError,
    InvalidConfigError,
    ModelNotFoundError,
    RequestError,
    RevisionNotFoundError,
    StorageError,
)
from gglib_nb.hub.login import log_in
from gglib_nb.manager import library, updating
from gglib_nb.manager.bundles import CARD, BundleReport, export_models, import_models, is_bundle
from gglib_nb.manager.calls import each, operation, settled
from gglib_nb.manager.importing import Importer
from gglib_nb.manager.operations import IdLike, QueueOperations
from gglib_nb.manager.resolving import given_path, home_of, plan_download
from gglib_nb.queue import events as on
from gglib_nb.system import free_bytes, is_file, is_folder

_LONGEST_CARD_BYTES: Final = 1024**2
_CHECKS_AT_ONCE: Final = 4


class ModelOperations(QueueOperations):
    """Operations on registered models and their files."""

    # Looking -----------------------------------------------------------------------------------------------------

    @operation
    def models(self) -> list[ModelSummary]:
        """The registered models, the newest first, and whether their files are unchanged since they were recorded.

        Nothing is hashed and no request is made. `pandas.DataFrame(rows)` has a column for each field.
        """
        catalog, stores = self._parts.catalog, self._parts.stores
        models = [*catalog.models(), *stores.models()]
        looks, uses = library.look_at({target for model in models for target in model.targets}), catalog.uses()
        rows = [summary_of(model, looks, uses.get(str(model.id))) for model in models]
        return [replace(row, store=stores.folder_of(row.path)) if row.origin == "store" else row for row in rows]

    @operation
    def disk_use(self) -> DiskUse:
        """How much of the disk the registered models take, and how much is free."""
        folder, stores = self._parts.config.models_directory, self._parts.stores
        stores.models()  # finds which of them are missing
        used_bytes = library.bytes_of(self._parts.catalog.models())
        return DiskUse(used_bytes, free_bytes(folder), str(folder), tuple(map(str, stores.missing)))

    @operation
    def find_model(self, id: IdLike) -> Model:  # noqa: A002 - the port's word
        """The model that an id names: a registered one, or one in a store of another program."""
        return self._parts.catalog.find(id, self._parts.stores.models)

    @operation
    def path(self, id: IdLike) -> Path:  # noqa: A002 - the port's word
        """The first shard of a registered model, which programs open; a `ModelNotFoundError` if any is missing."""
        model = self.find_model(id)
        looks = library.look_at(model.paths)
        lost = next((path for path in model.paths if looks[path] is None or not is_file(path)), None)
        if lost is not None and not model.hosts:  # the path of a model on a cluster's host is that host's
            again = f" To download it again: %gguf queue {model.id.typed}." if model.has_repository else ""
            off = "" if model.origin == "store" else f" To take it off the list: %gguf forget {model.id.typed}"
            raise ModelNotFoundError(f"The file of {model.id} is missing: {lost}.{again}{off}")
        if model.origin != "store":
            with suppress(CatalogError):  # a database that cannot be written must not hide a path
                self._parts.catalog.note_use(model.id, time.time())
        return Path(model.paths[0])

    @operation
    def loading_lines(self, id: IdLike, program: str) -> str:  # noqa: A002 - the port's word
        """The lines that load a registered model into a program; a `RequestError` for an unknown one.

        Programs: `llama-cpp-python`, `llama-server`, `llama-swap`, `ollama`, `lmstudio`, `ramalama`, `vllm`,
        `transformers`.
        """
        return loading_lines(self.find_model(id), program)

    @operation
    def write_preset(self, file: "str | PathLike[str]") -> PresetFile:
        """Writes a `models.ini`, from which `llama-server --models-preset FILE` serves every model on this machine.

        Lines that a user added to the file stay; those that name files of models are updated. A file that cannot be
        read or written raises `StorageError`.
        """
        return library.write_preset(given_path(file, "file"), self._parts.catalog.models())

    # Bundles and folders -----------------------------------------------------------------------------------------

    @operation
    def export(
        self,
        ids: IdLike | Iterable[IdLike],
        folder: "str | PathLike[str]",
        *,
        on_progress: OnWorkProgress | None = None,
    ) -> BundleReport:
        """Writes models into a bundle: a folder with their files, cards, and a manifest with every SHA-256.

        Files are linked if the bundle is on the same disk and copied otherwise; on a file system that cannot store a
        large file, in parts. Every copy is verified. Run it again to continue after an interruption, or to add models.
        `on_progress` is called after every few megabytes on a thread of the manager; it must not wait.

        Raises:
            RequestError: `ids` or `folder` is empty.
            StorageError: A model's file is missing, the folder cannot be written, or it has another file in that place.
            DiskFullError: The folder does not have enough space.
            IntegrityError: A model's file is damaged.
        """
        found = [self.find_model(id_) for id_ in ([ids] if isinstance(ids, str | DownloadId) else ids)]
        models = list({model.id: model for model in found}.values())
        if not models:
            raise RequestError("There is nothing to export. Name at least one model.")
        return export_models(models, given_path(folder), read_card=self._read_card, on_progress=on_progress)

    def _read_card(self, model: Model) -> bytes | None:
        if model.commit_sha is not None:
            with suppress(GglibError):  # a card is optional, and the machine may be offline
                # Not behind the listings that wait for a thread of the hub.
                return self._parts.hub.read_range(model.id.repo_id, model.commit_sha, CARD, 0, _LONGEST_CARD_BYTES)
        return None

    @operation
    def import_folder(
        self, folder: "str | PathLike[str]", *, on_progress: OnWorkProgress | None = None
    ) -> ImportReport:
        """Registers the GGUF files in and below a folder; nothing is moved, copied or hashed, and the Hub is not asked.

        Where the folder does not state the repository of a file, as the Hugging Face cache, LM Studio and llama.cpp do,
        its id is `local/<name>`, unless a registered model has the same SHA-256. `verify` hashes what was imported.

        The files of a bundle, which `export` wrote, are copied into the models folder, and every byte is verified. Run
        it again to continue after an interruption. `on_progress` is called for each file whose header is read, on a
        thread of the manager; it must not wait.

        Raises:
            StorageError: There is no such folder; or a file of a bundle is missing, or another file has its name, or
                the models folder is not mounted.
            RequestError: `folder` is empty, or the manifest of a bundle is not valid.
            DiskFullError: The models folder does not have enough space for the bundle.
            IntegrityError: A file of the bundle is damaged.
        """
        place, catalog, models_directory = given_path(folder), self._parts.catalog, self._parts.config.models_directory
        registered = catalog.models()
        importer = Importer(registered, time.time(), on_progress)
        if not is_bundle(place):
            importer.look_through(place)
            for model in importer.models:
                catalog.register(model)
        elif loss := library.loss_of_folder(models_directory, registered):
            raise StorageError(loss)
        else:
            with storage_errors(models_directory):
                importer.models += import_models(
                    place, models_directory, catalog.register, registered=registered, on_progress=on_progress
                )
        looks = library.look_at({target for model in importer.models for target in model.targets})
        return ImportReport(tuple(summary_of(model, looks) for model in importer.models), tuple(importer.skipped))

    # Deleting ----------------------------------------------------------------------------------------------------

    @operation
    def forget(self, id: IdLike) -> None:  # noqa: A002 - the port's word
        """Removes a model from the list; its files stay. An `AlreadyQueuedError` if a queue would register it again."""
        model = self._parts.catalog.find(id)
        self._refuse_to_discard(str(id), model, "taken off the list")
        self._refuse_if_queued(replace(model, files=()), "taken off the list")  # others may write its files
        self._parts.catalog.forget(model.id)

    @operation
    def delete(self, id: IdLike, *, dry_run: bool = False) -> Deletion:  # noqa: A002 - the port's word
        """Deletes a model's files and removes it from the list. A file that another registered model uses stays.

        With `dry_run` it only returns what would be deleted and how much that would free.

        Raises:
            AlreadyQueuedError: A download in the queue writes one of its files; cancel that first.
            StorageError: A file cannot be deleted or belongs to another program, or the folder it was downloaded to is
                missing or empty (perhaps its disk is not mounted). The model stays on the list.
        """
        model, models = self._own_model(id), self._parts.catalog.models()
        self._refuse_to_discard(str(id), model, "deleted")
        plan, home = self._deletion(model), self._home_of(model)
        if model.hosts and not plan.deleted:
            hosts = ", ".join(host.host for host in model.hosts)
            raise StorageError(
                f"The files of {model.id} are on {hosts} and cannot be reached from here. Delete them there; "
                f"`%gguf forget {model.id.typed}` removes it from the list."
            )
        if not (plan.deleted or plan.kept) and (loss := library.loss_of_folder(home, models)):
            raise StorageError(f"{loss} To take the model off the list: %gguf forget {model.id.typed}")
        return plan if dry_run else self._carry_out(plan, home)

    def _deletion(self, model: Model) -> Deletion:
        self._refuse_if_queued(model, "deleted")
        models, elsewhere = self._parts.catalog.models(), settled(self._parts.keeper.look())
        plan = library.plan_deletion(model, models, elsewhere)
        if any(library.is_in_hub_cache(Path(path)) for path in plan.deleted):
            raise StorageError(
                f"The files of {model.id} belong to the Hugging Face cache: `hf cache rm model/{model.id.repo_id}` "
                f"deletes them there, and `%gguf forget {model.id.typed}` removes the model from the list."
            )
        return plan

    def _carry_out(self, plan: Deletion, home: Path) -> Deletion:
        library.delete_files(plan.deleted, home)
        self._parts.catalog.forget(plan.id)
        self._post(on.FilesDeleted(frozenset(plan.deleted)))
        self._parts.registered()
        return replace(plan, is_dry_run=False)

    @operation
    def prune(
        self, *, keep_bytes: float | None = None, unused_s: float | None = None, dry_run: bool = False
    ) -> PrunePlan:
        """Deletes models to free space, those unused for longest first, and abandoned partial downloads.

        Models in other folders are included if they were downloaded there. Queued models are kept, those in the Hugging
        Face cache, those imported from other folders, and those of a folder that is missing or empty.

        Args:
            keep_bytes: Delete until the models take no more than this; None: no limit.
            unused_s: Delete models and abandoned downloads unused for this many seconds; None: no limit.
            dry_run: Only return what would be deleted.

        Raises:
            InvalidConfigError: A limit is negative; nothing is deleted.
            StorageError: A file cannot be deleted; those before it are.
        """
        for name, limit in (("keep_bytes", keep_bytes), ("unused_s", unused_s)):
            if limit is not None and limit < 0:
                raise InvalidConfigError(f"{name} is {limit!r}; it must be 0 or more.")
        models, wanted = self._parts.catalog.models(), self._wanted_targets()
        own = (model for model in models if not model.hosts and library.are_below(model, self._home_of(model)))
        homes = {model.id: self._home_of(model) for model in own}
        missing = [home for home in dict.fromkeys(homes.values()) if library.loss_of_folder(home, models)]
        abandoned = [one for one in self.partials() if one.target not in wanted and not one.is_in_use]
        uses = self._model_uses(models, {id_ for id_, home in homes.items() if home not in missing})
        plan = plan_pruning(uses, abandoned, time.time(), keep_bytes=keep_bytes, unused_s=unused_s)
        plan = replace(plan, missing_folders=tuple(map(str, missing)))
        if not dry_run:
            self.discard_partials([one.target for one in plan.unfinished])
            present = {str(model.id): model for model in models}
            for model in [present[use.id] for use in plan.models]:  # by their whole ids: another kernel may prune, too
                self._carry_out(self._deletion(model), self._home_of(model))
        return plan

    def _model_uses(self, models: Sequence[Model], deletable: Collection[DownloadId]) -> list[ModelUse]:
        uses, elsewhere = self._parts.catalog.uses(), self._queued_elsewhere()
        looks = library.look_at({model.paths[0] for model in models})
        plans = self._ask(lambda machine: [machine.plan_about(model.id, model.targets) for model in models])
        found = [
            ModelUse(
                str(model.id),
                0,
                last_use_s(model, looks.get(model.paths[0]), uses.get(str(model.id))) or model.registered_at_s,
                is_kept=plan is not None or model.id in elsewhere or model.id not in deletable,
            )
            for model, plan in zip(models, plans, strict=True)
        ]
        by_id = {str(model.id): model for model in models}
        order = [by_id.pop(use.id) for use in by_age(found) if not use.is_kept]
        freed, partners = library.freed_in_order(order, by_id.values())
        return [replace(use, size_bytes=freed[use.id], shares_with=tuple(partners[use.id])) for use in found]

    # Comparing with the Hub --------------------------------------------------------------------------------------

    @operation
    def verify(self, id: IdLike, *, on_progress: OnWorkProgress | None = None) -> Verification:  # noqa: A002
        """Hashes a model's files again and records the result; its `is_right` says whether all files are right.

        The engine's process hashes, so a cell that computes does not slow it. If it is cancelled, nothing is recorded.
        `faults` of the result names the files that are not right, and which of their bytes. `on_progress` is called at
        most ten times a second on a thread of the manager; it must not wait. If the engine's process ends,
        `EngineLostError` is raised.
        """
        return library.verify_files(self._parts.catalog, self._parts.engine, [self._own_model(id)], on_progress)[0]

    @operation
    def verify_all(self, *, on_progress: OnWorkProgress | None = None) -> list[Verification]:
        """Hashes the files of all registered models again, each file once; otherwise as `verify`."""
        return library.verify_files(self._parts.catalog, self._parts.engine, self._parts.catalog.models(), on_progress)

    @operation
    def repair(self, id: IdLike, *, on_progress: OnWorkProgress | None = None) -> Repair:  # noqa: A002
        """Verifies a model, unless its faults are known, and queues a download of the wrong and missing parts only.

        The damaged file is unchanged until the repaired one has the SHA-256 of the Hub and replaces it by a rename.
        `wait(id)` ends then. `on_progress` and `EngineLostError` are as for `verify`.

        Raises:
            RequestError: The model's repository is unknown, or its files belong to the Hugging Face cache.
            StorageError: A file cannot be read.
            RemoteChangedError: The Hub no longer has this version; `update` downloads the current one.
            HubError: The Hub refuses, or does not answer.
            QueueError: The queue is full, or a download in it writes one of the files; cancel that first.
        """
        parts = self._parts
        model = self._own_model(id)
        library.refuse_unrepairable(model)
        self._refuse_if_queued(model, "repaired")
        looks = library.look_at(model.targets)
        if state_of(model, looks) not in ("wrong", "missing"):
            [checked] = library.verify_files(parts.catalog, parts.engine, [model], on_progress)
            for file in checked.faults:
                if file.verdict in ("unreadable", "changed"):
                    why = file.reason or "it was changed while it was read"
                    raise StorageError(f"{file.path} cannot be repaired: {why}. Check the file, then try again.")
            model = parts.catalog.find(model.id)
            looks = library.look_at(model.targets)
        faulty = [file.target for file in model.files if file.wrong_ranges is not None or looks[file.target] is None]
        if not faulty:
            return Repair(str(model.id), False, (), 0, 0)
        try:
            listing = parts.at_hub(parts.hub.list_files, model.id.repo_id, model.commit_sha or model.id.revision)
        except RevisionNotFoundError:  # the history was rewritten; the files may be the same
            listing = parts.at_hub(parts.hub.list_files, model.id.repo_id, model.id.revision)
        model = self._again(model)
        plan = library.repair_plan(model, listing, parts.config.models_directory)
        place = self._queue_plan(str(model.id), lambda: plan)
        return Repair(str(model.id), True, tuple(faulty), library.bytes_to_fetch(plan, looks), place.position)

    @operation
    def check_updates(self, id: IdLike | None = None) -> list[ModelUpdate]:  # noqa: A002 - the port's word
        """What has changed on the Hub since one model, or all of them, were downloaded, file by file.

        Only the time of the check is recorded. A file with another SHA-256 is compared by its header and a few samples:
        some kilobytes to a few megabytes each.
        """
        parts = self._parts
        models = parts.catalog.models() if id is None else [self._own_model(id)]
        # Not on the threads of the hub: a model's disk may hang.
        return each(lambda model: updating.check_update(parts.hub, parts.catalog, model), models, _CHECKS_AT_ONCE)

    @operation
    def update(self, id: IdLike, *, keep: bool = False) -> QueuedUpdate:  # noqa: A002 - the port's word
        """Queues a download of a model's new version, which replaces the old one by a rename once it is verified.

        Tensors that are the same are copied from the old version. `wait(id)` ends when the new version has replaced it.
        With `keep`, the old version stays: it moves into `<owner>/<repo>/@<commit>/`, and its id is
        `owner/repo@<commit>:QUANT`.

        Raises:
            RequestError: Its repository, or the version to keep, is unknown, its files belong to another program, or
                the repository no longer has this variant; the text names those it has.
            HubError: The Hub refuses, or does not answer.
            QueueError: The queue is full, or a download in it writes its files; cancel that first.
        """
        parts = self._parts
        model = self._own_model(id)
        home, wanted = self._home_of(model), model.id
        updating.refuse_unupdatable(model, home)
        self._refuse_if_queued(model, "updated", may_update=True)
        request = DownloadRequest(
            wanted.repo_id,
            wanted.quantization,
            wanted.revision,
            companions=library.companion_kinds(model),
            to=str(home),
        )
        try:
            without = f"Download the new version without it: %gguf queue {wanted.typed} --force"
            fresh = parts.at_hub(plan_download, parts, request, parts.registered(), without)
        except RequestError:
            listing = parts.at_hub(parts.hub.list_files, wanted.repo_id, wanted.revision)
            if not all(listing.with_content(file.sha256) for file in model.files):
                raise
            return QueuedUpdate(str(wanted), False, listing.commit_sha, 0, 0)  # its files have other names now
        model = self._again(model)
        if updating.is_same_version(model, fresh):
            if model.replaces:  # an earlier update was interrupted
                files = updating.settle_update(parts.catalog, model, home, keeps_old=False)
                model = replace(model, files=files, replaces=())
            parts.catalog.register(replace(model, commit_sha=fresh.commit_sha))
            return QueuedUpdate(str(wanted), False, model.commit_sha or "", 0, 0)
        plan = updating.update_plan(model, fresh, home, keeps_old=keep)
        place = self._queue_plan(str(wanted), lambda: plan)
        return QueuedUpdate(str(wanted), True, plan.commit_sha, place.position, plan.size_bytes, plan.scan_finding)

    @operation
    def log_in(self, token: str) -> list[DownloadId]:
        """Logs in to the Hub: checks the token and stores it for every program of the user, as `hf auth login` does.

        Downloads that failed for lack of access are retried; returns their ids. No error or log has the token.

        Raises:
            InvalidTokenError: The Hub does not accept it; nothing is stored.
            InvalidConfigError: It cannot be stored, or it is stored, but this kernel uses another token.
            NetworkError: The Hub cannot be reached; nothing is stored.
            QueueFullError: No more downloads may wait; the token is stored, and those before are retried.
        """
        self._parts.at_hub(log_in, self._parts.hub, token)
        if self._parts.at_hub(lambda: self._parts.hub.token) not in (None, token.strip()):
            raise InvalidConfigError(
                "The token is stored, but this kernel uses another one, from HF_TOKEN or hf_token. Remove that (in a "
                "cell: import os; del os.environ['HF_TOKEN']), then retry what failed: %gguf retry ID"
            )
        return self._parts.at_hub(self._parts.retry_granted)

    # Partial downloads -------------------------------------------------------------------------------------------

    @operation
    def partials(self) -> list[Leftover]:
        """The partial downloads in the models folder, and in the known folders of `to`, by path."""
        found = {one.target: one for folder in self._homes(self._parts.registered()) for one in leftovers(folder)}
        return list(found.values())  # (a folder of `to` may be below the models folder)

    @operation
    def discard_partials(self, targets: Iterable[str]) -> frozenset[str]:
        """Deletes partial files that are neither queued nor in use; returns the targets that have none now."""
        deleted = discard_leftovers(frozenset(targets) - self._wanted_targets())
        self._post(on.PartialsDeleted(deleted))
        return deleted

    @operation
    def queue_partials(self, targets: Collection[str] | None = None) -> list[DownloadId]:
        """Queues the unfinished downloads of these targets, or all, that are not in the queue; returns their ids.

        If some cannot be queued, the others are, and the first error is raised.
        """
        models, wanted = self._parts.registered(), self._wanted_targets()
        queued: list[DownloadId] = []
        errors: list[GglibError] = []
        for home in sorted(self._homes(models), key=lambda home: len(home.parts), reverse=True):
            for partial in library.partial_requests(home, models, wanted, targets):
                try:
                    if isinstance(partial, DownloadRequest):
                        queued.append(self._queue(partial, joins=True).id)
                    else:  # whether the old version was to be kept is no longer known; a kept version can be deleted
                        self.update(partial, keep=self.find_model(partial).commit_sha is not None)
                        queued.append(partial)
                except GglibError as error:
                    errors.append(error)
            wanted |= {one.target for one in leftovers(home)}  # those of a folder in the next one are not of that one
        if errors:
            raise errors[0]
        return queued

    def _wanted_targets(self) -> frozenset[str]:
        """What the queues of this kernel and of others write."""
        return settled(self._parts.keeper.look()) | self._ask(lambda machine: machine.wanted_targets)

    def _queued_elsewhere(self) -> dict[DownloadId, ElsewhereDownload]:
        self.see_others()
        return {one.id: one for one in self._parts.queue.snapshot.elsewhere}

    def _homes(self, models: Iterable[Model]) -> list[Path]:
        """The models folder, and the folders of `to` that the catalog or the queue names."""
        asked_for = [Path(row.to) for row in self._parts.queue.snapshot.downloads.values() if row.to is not None]
        others = filter(is_folder, (*map(self._home_of, models), *asked_for))  # not those on a dead mount
        return list(dict.fromkeys([self._parts.config.models_directory, *others]))

    def _home_of(self, model: Model) -> Path:
        return home_of(model, self._parts.config.models_directory)

    def _own_model(self, id_: IdLike) -> Model:
        """One of our models, which may be changed; a `StorageError` if it belongs to another program."""
        model = self.find_model(id_)
        if model.origin != "store":
            return model
        raise StorageError(
            f"{model.id} is in {Path(model.paths[0]).parent}, which belongs to another program and is never changed "
            "here. Check, update or delete it with that program."
        )

    def _again(self, model: Model) -> Model:
        """A model as it is registered now, after a wait: it may have been deleted or verified meanwhile."""
        found = self._parts.catalog.find(model.id)
        refuse_beginning(str(model.id), found)
        return found

    def _refuse_to_discard(self, text: str, model: Model, what: str) -> None:
        refuse_beginning(text, model)
        if (other := self._queued_elsewhere().get(model.id)) is not None and not other.is_left:
            raise AlreadyQueuedError(
                f"{model.id} is in the queue of {other.owner}, so it cannot be {what} now. Cancel it there first.",
                str(model.id),
            )

    def _refuse_if_queued(self, model: Model, what: str, *, may_update: bool = False) -> None:
        plan = self._ask(lambda machine: machine.plan_about(model.id, model.targets))
        if plan is not None and not (may_update and plan.is_update):
            raise AlreadyQueuedError(
                f"{plan.id} is in the queue and writes files of {model.id}, so that cannot be {what} now. "
                f"Cancel it first: %gguf cancel {plan.id.typed}",
                str(plan.id),
            )
