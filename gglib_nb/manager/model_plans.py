"""Plans for models that are here already: to mend one, and to fetch its new version beside it.

A listing and a model in, a plan out. Which commit, and what is asked of the Hub, is the caller's business.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gglib_nb.domain.download import PlannedDownload, PlannedFile
from gglib_nb.domain.file_names import parse_path
from gglib_nb.domain.listing import RepoListing
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import Looks, state_of
from gglib_nb.domain.variants import variants_of
from gglib_nb.errors import RemoteChangedError, RequestError
from gglib_nb.manager.model_files import is_in_hub_cache
from gglib_nb.manager.resolving import planned_file, shard_files
from gglib_nb.manager.update_settling import version_path


def repair_plan(model: Model, listing: RepoListing, models_directory: Path) -> PlannedDownload:
    """Fetches what is wrong or missing of a model and leaves the rest.

    Args:
        model: As the catalog has it; its files say which bytes are wrong.
        listing: Of the commit that it comes from.
        models_directory: The models folder.

    Raises:
        RemoteChangedError: The Hub has not these files any more, or has others under their names.
    """
    files = tuple(_mended(model, remote) for remote in remote_files(model, listing, models_directory))
    kinds = tuple(dict.fromkeys(file.kind for file in model.files if file.kind != "shard"))
    return PlannedDownload(
        id=model.id,
        commit_sha=listing.commit_sha,
        label=model.label,
        files=files,
        reason="It is mended: only what is wrong is fetched.",
        companions=kinds,
        replaces=True,
    )


def update_plan(model: Model, plan: PlannedDownload, models_directory: Path, *, keeps_old: bool) -> PlannedDownload:
    """Fetches the new version of a model beside the old one, into whose place it comes once all of it is verified.

    Args:
        model: As the catalog has it.
        plan: What a fresh download of the same variant would fetch.
        models_directory: The models folder.
        keeps_old: The old version stays, under an id with its commit.
    """
    # A repository that was renamed on the Hub keeps its id and its folder here, so that the next update finds them.
    here, there = (models_directory.joinpath(*name.split("/")) for name in (model.id.repo_id, plan.id.repo_id))
    usual = [here / Path(file.target).relative_to(there) for file in plan.files]
    files = tuple(
        replace(
            file,
            target=str(version_path(models_directory, model.id.repo_id, plan.commit_sha, target)),
            known_mtime_ns=None,
        )
        for file, target in zip(plan.files, usual, strict=True)
    )
    return replace(
        plan,
        id=model.id,
        files=files,
        reason=f"It is the version {plan.commit_sha[:8]}; the one that is here stays until this is verified.",
        donors=model.paths,
        is_update=True,
        keeps_old=keeps_old,
    )


def remote_files(model: Model, listing: RepoListing, models_directory: Path) -> list[PlannedFile]:
    """The files of the Hub that a model's files come from, at the targets of the model.

    Raises:
        RemoteChangedError: One is not there any more.
    """
    planned = {file.path_in_repo: file for file in _planned(model, listing, models_directory)}
    by_place: dict[str, list[PlannedFile]] = {}
    for file in planned.values():
        by_place.setdefault(parse_path(file.path_in_repo).place, []).append(file)
    found = []
    for stored in model.files:
        parts = by_place.get(parse_path(stored.path_in_repo).place)
        if parts is None and (renamed := listing.with_content(stored.sha256)) is not None:
            parts = [planned_file(models_directory, listing, renamed.path, stored.kind)]
        if parts is None:
            raise RemoteChangedError(
                f"{listing.repo_id} has no {stored.path_in_repo} at the commit {listing.commit_sha[:8]} any more."
            )
        found += [replace(part, target=stored.target, kind=stored.kind) for part in parts]
    return found


def _planned(model: Model, listing: RepoListing, models_directory: Path) -> Iterable[PlannedFile]:
    places = {parse_path(file.path_in_repo).place for file in model.files}
    variants = variants_of((file.path, file.size_bytes) for file in listing.files)
    for variant in variants.variants:
        if places.intersection(parse_path(path).place for path in variant.files):
            yield from shard_files(models_directory, listing, variant)
    for file in listing.files:
        if file.path in places and parse_path(file.path).split is None:
            yield planned_file(models_directory, listing, file.path, "shard")


def _mended(model: Model, remote: PlannedFile) -> PlannedFile:
    stored = next(file for file in model.files if file.target == remote.target)
    if stored.sha256 not in (None, remote.sha256) and parse_path(stored.path_in_repo).split is None:
        raise RemoteChangedError(
            f"{remote.path_in_repo} is another file on the Hub by now, so the one that is here cannot be mended. "
            f"Fetch the new one: %gguf update {model.id}"
        )
    return replace(remote, known_mtime_ns=stored.mtime_ns, wrong_ranges=stored.wrong_ranges)


def has_known_faults(model: Model, looks: Looks) -> bool:
    """Whether something is known to be wrong or missing of a model of which nobody has touched a file since."""
    return bool(faulty_paths(model, looks)) and state_of(model, looks) in ("wrong", "missing")


def faulty_paths(model: Model, looks: Looks) -> tuple[str, ...]:
    """The files that are known to be wrong, or are not there."""
    return tuple(file.target for file in model.files if file.wrong_ranges is not None or looks.get(file.target) is None)


def bytes_to_fetch(plan: PlannedDownload, looks: Looks) -> int | None:
    """How much a repair fetches; None where a size is unknown."""
    sizes = [_missing(file, is_there=looks.get(file.target) is not None) for file in plan.files]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _missing(file: PlannedFile, *, is_there: bool) -> int | None:
    if not is_there or file.wrong_ranges == ():
        return file.size_bytes
    return sum(end - start for start, end in file.wrong_ranges or ())


def refuse_unmendable(model: Model) -> None:
    """Refuses models of which nobody can say what they should be.

    Raises:
        RequestError: Its repository is unknown, or the Hugging Face cache keeps its files.
    """
    if model.origin == "local":
        raise RequestError(f"Nobody knows which repository {model.id} comes from, so nothing can be fetched for it.")
    if any(is_in_hub_cache(Path(file.target)) for file in model.files):
        raise RequestError(
            f"The Hugging Face cache keeps the files of {model.id}; they are not written to. "
            f"Get a copy of your own: %gguf queue {model.id.repo_id}"
        )


def refuse_unupdatable(model: Model, models_directory: Path) -> None:
    """Refuses models whose files are not ours to replace.

    Raises:
        RequestError: Its repository is unknown, or its files stand outside of the models folder.
    """
    refuse_unmendable(model)
    folder = models_directory.joinpath(*model.id.repo_id.split("/"))
    if not all(Path(file.target).is_relative_to(folder) for file in model.files):
        raise RequestError(
            f"The files of {model.id} stand outside of the models folder and are left to who put them there. "
            f"Get the new version beside them: %gguf forget {model.id}, then %gguf queue {model.id}"
        )


def is_same_version(model: Model, fresh: PlannedDownload) -> bool:
    """Whether what would be fetched now is what is here: the same files, by their digests."""
    here = sorted((file.kind, file.sha256 or "") for file in model.files)
    there = sorted((file.kind, file.sha256 or "") for file in fresh.files)
    is_known = all(file.sha256 for file in fresh.files)
    return model.commit_sha == fresh.commit_sha or (is_known and here == there)
