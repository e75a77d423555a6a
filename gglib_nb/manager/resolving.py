"""From a request to a plan: which commit, which variant, which files, and where each one goes.

Calls the Hub and the catalog through the two protocols below, so it runs on a worker thread and never on the
kernel's event loop. It changes nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from gglib_nb.domain.choosing import Choice, choose
from gglib_nb.domain.companions import COMPANION_KINDS
from gglib_nb.domain.download import DownloadRequest, PlannedDownload, PlannedFile
from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.model import Model
from gglib_nb.domain.places import check_length, target_path
from gglib_nb.domain.references import DownloadId, check_repo_id
from gglib_nb.domain.variants import Variant, Variants, companion_for, variants_of
from gglib_nb.errors import CatalogError, HubUnavailableError, RequestError
from gglib_nb.manager.headers import registered_donors
from gglib_nb.system import LONGEST_PATH_CHARACTERS

_MOST_FILES: Final = 10_000  # the largest sets have 1,800 shards, and each costs a row, a journal and a lease


class Hub(Protocol):
    """The part of the hub client that is used here."""

    def list_files(self, repo_id: str, revision: str | None = None) -> RepoListing:
        """Every file at the commit of the revision."""

    def check_access(self, repo: RepoListing | str) -> None:
        """Refuses a gated repository whose files the token may not read."""


class KnownFile(Protocol):
    """What the catalog recorded about a file that it verified."""

    @property
    def size_bytes(self) -> int:
        """Its size then."""

    @property
    def mtime_ns(self) -> int:
        """Its modification time then."""

    @property
    def sha256(self) -> str | None:
        """Its digest; None if it was not computed."""


class KnownFiles(Protocol):
    """The part of the catalog that is used here."""

    def known_files(self, paths: Iterable[str]) -> Mapping[str, KnownFile]:
        """What is recorded about files, by path."""

    def models(self) -> Sequence[Model]:
        """The registered models, the newest first."""


class Resolver:
    """Turns requests into plans."""

    def __init__(
        self,
        hub: Hub,
        catalog: KnownFiles,
        models_directory: Path,
        memory_bytes: Callable[[], int | None],
        stored_models: Callable[[], Sequence[Model]] = tuple,
    ) -> None:
        self._hub: Final = hub
        self._catalog: Final = catalog
        self._models_directory: Final = models_directory
        self._memory_bytes: Final = memory_bytes
        self._stored_models: Final = stored_models

    def resolve(self, request: DownloadRequest) -> PlannedDownload:
        """The plan for a request.

        Raises:
            RequestError: It names no variant, several, or one that cannot be downloaded.
            HubError: The Hub refused, or did not answer.
        """
        check_repo_id(request.repo_id)
        listing = self._hub.list_files(request.repo_id, request.revision)
        variants = variants_of((file.path, file.size_bytes) for file in listing.files)
        choice = choose(variants, request.quantization, self._memory_bytes(), repository=listing.repo_id)
        if listing.gate is not None:
            self._hub.check_access(listing)
        return self.plan(request, listing, variants, choice)

    def plan(
        self, request: DownloadRequest, listing: RepoListing, variants: Variants, choice: Choice
    ) -> PlannedDownload:
        """The plan for a variant that is already chosen."""
        variant = choice.variant
        shards = shard_files(self._models_directory, listing, variant)
        files = (*shards, *self._companions(request, listing, variants, variant))
        _check_apart(listing.repo_id, files)
        return PlannedDownload(
            id=DownloadId(listing.repo_id, variant.key, request.revision),
            commit_sha=listing.commit_sha,
            label=variant.quantization,
            files=self._with_known_times(files),
            reason="" if choice.reason == "requested" else choice.why,
            force=request.force,
            add_to_db=request.add_to_db,
            companions=request.companions,
            everywhere=request.everywhere,
            donors=() if request.force else self._donors(variant),
        )

    def _donors(self, variant: Variant) -> tuple[str, ...]:
        try:
            return registered_donors([*self._catalog.models(), *self._stored_models()], variant.files[0])
        except CatalogError:
            return ()  # everything is downloaded then; the keeper reports the problem

    def _companions(
        self, request: DownloadRequest, listing: RepoListing, variants: Variants, variant: Variant
    ) -> list[PlannedFile]:
        files = []
        for wanted in dict.fromkeys(request.companions):
            kind = next((one for one in COMPANION_KINDS if one == wanted), None)
            if kind is None:
                raise RequestError(
                    f"{wanted!r} cannot be downloaded as a companion; only {', '.join(COMPANION_KINDS)} can."
                )
            if (companion := companion_for(variants, variant, kind)) is None:
                raise RequestError(f"{listing.repo_id} has no {kind} for {variant.key}. Leave out --with.")
            files.append(planned_file(self._models_directory, listing, companion.path, kind))
        return files

    def _with_known_times(self, files: tuple[PlannedFile, ...]) -> tuple[PlannedFile, ...]:
        try:
            known = self._catalog.known_files({file.target for file in files})
        except CatalogError:
            return files  # files on the disk are hashed instead; the keeper reports the problem
        return tuple(_with_known_time(file, known.get(file.target), files) for file in files)


def shard_files(models_directory: Path, listing: RepoListing, variant: Variant) -> list[PlannedFile]:
    """The files of a variant, in order; the parts of a byte split share a target.

    Raises:
        RequestError: A name that cannot be stored.
        HubUnavailableError: The Hub does not give the size of a part, so the place of the next one is unknown.
    """
    if len(variant.files) > _MOST_FILES:
        raise RequestError(
            f"{variant.key} is split into {len(variant.files)} files, and more than {_MOST_FILES} are not downloaded."
        )
    if variant.split != "bytes":
        return [planned_file(models_directory, listing, path, "shard") for path in variant.files]
    parts, offset = [], 0
    for path in variant.files:
        parts.append(planned_file(models_directory, listing, path, "shard", offset))
        size = parts[-1].size_bytes
        if size is None:
            raise HubUnavailableError(f"The Hub does not say how large {path} is, so its parts cannot be joined.")
        offset += size
    return parts


def planned_file(
    models_directory: Path, listing: RepoListing, path: str, kind: str, offset_bytes: int = 0
) -> PlannedFile:
    """One file of a listing at its usual place.

    Raises:
        RequestError: A name that cannot be stored.
    """
    file = listing.file(path)
    target = target_path(models_directory, listing.repo_id, parse_path(path).place)
    check_length(target, LONGEST_PATH_CHARACTERS)
    return PlannedFile(path, file.size_bytes, file.sha256, str(target), offset_bytes, kind)


def _check_apart(repo_id: str, files: Iterable[PlannedFile]) -> None:
    """Refuses files whose names are equal on macOS and Windows."""
    targets: dict[str, str] = {}
    for file in files:
        first = targets.setdefault(file.target.casefold(), file.target)
        if first != file.target:
            raise RequestError(
                f"{repo_id} has two files of this model whose names differ only in case ({file.path_in_repo}). On some disks "
                "they would be one file, so neither is downloaded."
            )


def _with_known_time(file: PlannedFile, known: KnownFile | None, files: tuple[PlannedFile, ...]) -> PlannedFile:
    """The file with the time at which the catalog verified its target, if that had the same content."""
    parts = [other for other in files if other.target == file.target]
    size = sum(part.size_bytes or 0 for part in parts)
    is_same = known is not None and known.size_bytes == size and (len(parts) > 1 or known.sha256 == file.sha256)
    if known is None or not is_same:
        return file
    return replace(file, known_mtime_ns=known.mtime_ns)
