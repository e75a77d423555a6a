"""The operations before and after a download: inspect and compare, bundles, pruning, login.

Each is a blocking function, defined once; the modules that it calls do the work.
"""

import time
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Final

from gglib_nb.domain.choosing import choose
from gglib_nb.domain.inspection import Comparison, Inspection, compare
from gglib_nb.domain.library import ModelUse, PrunePlan, UnfinishedDownload, plan_pruning
from gglib_nb.domain.model import Model, last_use_s
from gglib_nb.domain.references import DownloadId, parse_pasted
from gglib_nb.domain.variants import variants_of
from gglib_nb.errors import GglibError, InvalidRepoIdError, ModelNotFoundError, RequestError, StorageError
from gglib_nb.hub.login import log_in
from gglib_nb.manager.access_watch import waiting_for_access
from gglib_nb.manager.bundles import BundleReport, OnBundleProgress, export_models
from gglib_nb.manager.calls import has_given_up, settled
from gglib_nb.manager.inspection import inspect_model, inspect_variant
from gglib_nb.manager.library import is_in_hub_cache, look_at, plan_deletion
from gglib_nb.manager.machine import given_folder, ram_bytes
from gglib_nb.manager.model_operations import ModelOperations
from gglib_nb.manager.operations import IdLike
from gglib_nb.manager.parts import operation

_CARD: Final = "README.md"
_LONGEST_CARD_BYTES: Final = 1024**2


class StorageOperations(ModelOperations):
    """Operations on models and storage, before and after a download."""

    @operation
    def inspect(self, id: IdLike, *, on_hub: bool = False) -> Inspection:  # noqa: A002 - the port's word
        """The contents of a model: metadata, chat template, tokenizer, tensors by type.

        A registered model is read from its files; anything else from the Hub, where only headers are read and nothing is
        downloaded.

        Args:
            id: Id of a registered model or a part that matches only one; else `owner/repo`, with or without `:QUANT`.
            on_hub: Read the Hub's present version, even if the model is registered.

        Raises:
            ModelNotFoundError: No model matches the id, and it names no repository.
            AmbiguousQuantizationError: Several models or variants match; `choices` has them.
            RequestError: The repository has no such variant.
            HubError: The Hub refuses, or cannot be reached.
            StorageError: A file is missing or cannot be read.
            GgufError: A file is not a GGUF file that can be read.
        """
        try:
            model = self.find_model(id)
        except ModelNotFoundError as missing:
            try:
                wanted = parse_pasted(str(id))
            except InvalidRepoIdError:
                raise missing from None
            return self._parts.at_hub(self._inspect_on_hub, wanted)
        return self._parts.at_hub(self._inspect_on_hub, model.id) if on_hub else inspect_model(model)

    @operation
    def compare(self, first: IdLike, second: IdLike | None = None) -> Comparison:
        """How two models differ: keys with different values, and the chat templates as a diff.

        Args:
            first: As for `inspect`.
            second: As for `inspect`; None: the Hub's present version of the first, which must be registered.

        Raises:
            GglibError: As for `inspect`.
        """
        if second is not None:
            return compare(self.inspect(first), self.inspect(second))
        model = self.find_model(first)
        return compare(inspect_model(model), self._parts.at_hub(self._inspect_on_hub, model.id))

    @operation
    def export(
        self,
        ids: IdLike | Iterable[IdLike],
        folder: "str | PathLike[str]",
        *,
        on_progress: OnBundleProgress | None = None,
    ) -> BundleReport:
        """Write models into a bundle: a folder with their files, cards, and a manifest with every SHA-256.

        Files are linked if the bundle is on the same disk and copied otherwise; on a file system that cannot store a large file,
        in parts. Every copy is verified. Run it again to continue after an interruption, or to add models.

        Args:
            ids: One registered model or several, as for `path`.
            folder: The folder of the bundle.
            on_progress: Called after every few megabytes on a thread of the manager's; it must not block.

        Raises:
            ModelNotFoundError: No model matches an id.
            AmbiguousQuantizationError: Several do; `choices` has their ids.
            RequestError: `ids` or `folder` is empty.
            StorageError: A model's file is missing, or the folder cannot be written.
            DiskFullError: The folder does not have enough room.
            IntegrityError: A model's file is damaged.
        """
        models = [self.find_model(id_) for id_ in ([ids] if isinstance(ids, str | DownloadId) else ids)]
        if not models:
            raise RequestError("There is nothing to export. Name at least one model.")
        return export_models(
            models,
            given_folder(folder),
            read_card=self._read_card,
            on_progress=on_progress,
            is_stopped=has_given_up,
        )

    @operation
    def prune(
        self, *, keep_bytes: int | None = None, unused_s: float | None = None, dry_run: bool = False
    ) -> PrunePlan:
        """Delete models to free space, those unused for longest first, and abandoned partial downloads.

        Queued models are kept, and so are those in the Hugging Face cache and outside the models folder.

        Args:
            keep_bytes: Delete until the models take no more than this; None: no limit.
            unused_s: Delete models and abandoned downloads unused for this many seconds; None: no limit.
            dry_run: Only return what would be deleted.

        Raises:
            StorageError: A file cannot be deleted; those before it are.
            CatalogError: The models database cannot be read or written.
        """
        plan = plan_pruning(
            self._model_uses(), self._abandoned(), time.time(), keep_bytes=keep_bytes, unused_s=unused_s
        )
        if not dry_run:
            self.discard_partials([one.path for one in plan.unfinished])
            for model in plan.models:
                self.delete(model.id)
        return plan

    @operation
    def log_in(self, token: str) -> list[DownloadId]:
        """Log in to the Hub: huggingface_hub checks the token and stores it for every program of the user.

        Downloads that failed for lack of access are retried.

        Args:
            token: A user's token. It appears in no error and no log.

        Returns:
            The downloads that are retried.

        Raises:
            InvalidTokenError: The Hub does not accept it; nothing is stored.
            HubUnavailableError: The Hub cannot be reached; nothing is stored.
        """
        self._parts.at_hub(log_in, token)
        return self._parts.at_hub(self._parts.access.retry, waiting_for_access(self._parts.queue.snapshot))

    def _inspect_on_hub(self, wanted: DownloadId) -> Inspection:
        hub = self._parts.hub
        listing = hub.list_files(wanted.repo_id, wanted.revision)
        variants = variants_of((file.path, file.size_bytes) for file in listing.files)
        choice = choose(variants, wanted.quantization, ram_bytes(), repository=listing.repo_id)
        return inspect_variant(hub, listing, choice.variant)

    def _read_card(self, model: Model) -> bytes | None:
        hub = self._parts.hub
        if model.commit_sha is None:
            return None
        try:
            return self._parts.at_hub(hub.read_range, model.id.repo_id, model.commit_sha, _CARD, 0, _LONGEST_CARD_BYTES)
        except GglibError:
            return None  # a card is optional, and the machine may be offline

    def _model_uses(self) -> list[ModelUse]:
        catalog, folder = self._parts.catalog, self._parts.config.models_directory
        models, uses = catalog.models(), catalog.uses()
        looks = look_at({model.paths[0] for model in models})
        queued = settled(
            self._parts.queue.ask(
                lambda machine: {
                    str(model.id) for model in models if machine.plan_about(model.id, model.targets) is not None
                }
            )
        )
        return [
            ModelUse(
                str(model.id),
                _freed_bytes(model, models),
                last_use_s(model, looks.get(model.paths[0]), uses.get(str(model.id))) or model.registered_at_s,
                is_kept=str(model.id) in queued or not _is_ours(model, folder),
            )
            for model in models
        ]

    def _abandoned(self) -> list[UnfinishedDownload]:
        wanted, folder = self._wanted_targets(), self._parts.config.models_directory
        return [
            UnfinishedDownload(one.target, one.disk_bytes, one.modified_s)
            for one in self.partials()
            if one.target not in wanted and not one.is_in_use and Path(one.target).is_relative_to(folder)
        ]


def _freed_bytes(model: Model, models: list[Model]) -> int:
    try:
        return plan_deletion(model, [other for other in models if other.id != model.id]).freed_bytes
    except StorageError:
        return 0


def _is_ours(model: Model, folder: Path) -> bool:
    return all(Path(target).is_relative_to(folder) and not is_in_hub_cache(Path(target)) for target in model.targets)
