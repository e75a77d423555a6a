"""The files of registered models: checking, deleting, verifying, repairing; and partial files in the models folder."""

import os
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.download import DownloadRequest, PlannedDownload, PlannedFile, StoredFile, sizes_by_target
from gglib_nb.domain.importing import VERSION
from gglib_nb.domain.library import CheckedFile, Deletion, OnWorkProgress, SkippedFile, Verification, WorkProgress
from gglib_nb.domain.loading import PresetFile, merged_preset
from gglib_nb.domain.model import FileLook, Looks, Model
from gglib_nb.domain.names import DownloadId, parse_path
from gglib_nb.domain.plan import RepoListing
from gglib_nb.domain.values import known_sum
from gglib_nb.domain.variants import variants_of
from gglib_nb.engine.disk import found_in_time, status_of, storage_errors
from gglib_nb.engine.local import leftovers
from gglib_nb.engine.protocol import FileToCheck
from gglib_nb.errors import RemoteChangedError, RequestError, StorageError
from gglib_nb.manager.calls import settled
from gglib_nb.manager.engine import Engine
from gglib_nb.manager.importing import stated_sha256
from gglib_nb.manager.resolving import home_of, planned_file, shard_files
from gglib_nb.system import allocated_bytes, exists, is_file, is_folder, only_writer, replace_file


def look_at(paths: Iterable[str]) -> dict[str, FileLook | None]:
    """Size and times of files, of a link those of its target; None: there is no such file, or its disk hangs."""
    looks: dict[str, FileLook | None] = dict.fromkeys(paths)
    folders: dict[str, list[str]] = defaultdict(list)
    for path in looks:
        folders[os.path.dirname(path)].append(path)  # noqa: PTH120 - texts
    for path, found in found_in_time({folder: partial(_statuses, inside) for folder, inside in folders.items()}):
        looks[path] = FileLook(found.st_size, found.st_mtime_ns, found.st_atime_ns)
    return looks


def _statuses(paths: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    for path in paths:
        if (found := status_of(Path(path))) is not None:
            yield path, found


def bytes_of(models: Iterable[Model], plans: Iterable[PlannedDownload] = ()) -> int:
    """The disk space of models and of downloads once complete; a shared file counts once, a missing one not."""
    files = {file.target: file.size_bytes for model in models for file in model.files}
    looks = look_at(files)
    sizes = {target: size_bytes for target, size_bytes in files.items() if looks[target] is not None}
    for plan in plans:
        sizes |= sizes_by_target(plan.files)
    return sum(sizes.values())


def loss_of_folder(models_directory: Path, models: Iterable[Model]) -> str:
    """Why a models folder counts as not mounted, so that nothing is written or concluded there; empty: it is mounted.

    It is not mounted if models are registered in it and none of their owners' folders exists.
    """
    owners = owner_folders(models_directory, models)
    looks = look_at([*owners, str(models_directory)])
    if not owners or any(looks[owner] is not None for owner in owners):
        return ""
    is_missing = looks[str(models_directory)] is None
    return (
        f"The models folder {models_directory} {'does not exist' if is_missing else 'has none of its models'}. If its "
        "disk is not mounted, mount it and try again. If its files were deleted on purpose, create the folder "
        f"{models_directory if is_missing else owners[0]} and try again."
    )


def with_companions(new: Model, registered: Iterable[Model]) -> Model:
    """A model that is registered again: also with companions that `new` lacks, and what an update has yet to delete."""
    kinds = {file.kind for file in new.files}
    for model in registered:
        if model.id == new.id and (model.paths == new.paths or model.replaces):
            files = (file for file in model.files if file.kind not in kinds and exists(Path(file.target)))
            placed = replace(new, files=(*new.files, *files))
            left = {*model.replaces, *model.targets} if model.replaces else set()
            return replace(placed, replaces=tuple(sorted(left - placed.targets)))
    return new


def owner_folders(models_directory: Path, models: Iterable[Model]) -> tuple[str, ...]:
    """The folders of the owners of registered models in a models folder."""
    targets = [Path(target) for model in models if not model.hosts for target in model.targets]
    inside = [target.relative_to(models_directory) for target in targets if target.is_relative_to(models_directory)]
    return tuple(sorted({str(models_directory / target.parts[0]) for target in inside}))


@contextmanager
def made_home(folder: Path, repo_id: str) -> Iterator[None]:
    """Makes the folder of a repository in the folder of `--to`, which must exist: its disk may not be mounted.

    If the block raises, the folders that were made are removed. Other kernels that queue to `folder` wait for its end.
    """
    if not is_folder(folder):
        raise StorageError(
            f"{folder} is not a folder. If its disk is not mounted, mount it and try again. Otherwise, create the "
            "folder first."
        )
    with storage_errors(folder, "cannot be written", " Choose another folder."), only_writer(folder):
        home = folder / repo_id
        new = [one for one in (home, home.parent) if not exists(one)]
        home.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            with suppress(OSError):
                for one in new:
                    one.rmdir()
            raise


def usual_path(folder: Path, target: Path) -> Path:
    """The usual path of a file in the folder of its version in a repository's; its own path elsewhere."""
    inside = target.relative_to(folder).parts if target.is_relative_to(folder) else ()
    return folder.joinpath(*inside[1:]) if len(inside) > 1 and VERSION.fullmatch(inside[0]) else target


def plan_deletion(model: Model, models: Iterable[Model], elsewhere: Collection[str] = ()) -> Deletion:
    """What deleting one of `models` deletes: no file of another, nor a companion that a download `elsewhere` uses."""
    users = {target: other for other in models if other.id != model.id for target in other.targets}
    deleted, kept = [], []
    for target in dict.fromkeys([*(file.target for file in model.files), *model.replaces]):
        if (user := users.get(target)) is not None:
            kept.append(SkippedFile(target, f"{user.id} uses it"))
        elif target not in model.paths and target in elsewhere:
            kept.append(SkippedFile(target, "a download in the queue of another kernel uses it"))
        elif os.path.lexists(target):
            deleted.append(target)
    return Deletion(str(model.id), tuple(deleted), sum(map(_freed_bytes, deleted)), tuple(kept), is_dry_run=True)


def freed_in_order(models: Sequence[Model], kept: Collection[Model]) -> tuple[Counter[str], dict[str, set[str]]]:
    """What deleting models one after the other frees, those to keep last, by id; and with which others each does so.

    A file is freed with the last model that has it, or another hard link to it; the models before free it too.
    """
    users = Counter(target for model in (*models, *kept) for target in model.targets)
    links: dict[tuple[int, int], int] = {}
    holders: dict[tuple[int, int], set[str]] = defaultdict(set)
    freed, partners = Counter[str](), defaultdict[str, set[str]](set)
    for model in (*models, *kept):
        for target in model.targets.union(model.replaces):
            users[target] -= 1
            with suppress(OSError):
                found = os.lstat(target)
                inode = found.st_dev, found.st_ino
                holders[inode].add(str(model.id))
                links[inode] = links.get(inode, found.st_nlink) - (users[target] <= 0)
                if not links[inode] and not stat.S_ISLNK(found.st_mode):
                    freed[str(model.id)] += allocated_bytes(Path(target))
                    for holder in () if model in kept else holders[inode] - {str(model.id)}:
                        partners[holder].add(str(model.id))
    return freed, partners


def delete_files(paths: Iterable[str], models_directory: Path) -> None:
    """Deletes files that exist, and folders of the models folder that are then empty. Raises `StorageError`."""
    for path in map(Path, paths):
        with storage_errors(path, "cannot be deleted", " Check the folder, then try again."):
            path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == models_directory or not folder.is_relative_to(models_directory):
                break
            try:
                os.rmdir(folder)  # noqa: PTH106 - it fails for a folder that is not empty, as intended
            except OSError:
                break


def _freed_bytes(path: str) -> int:
    with suppress(OSError):
        if os.lstat(path).st_nlink == 1 and not os.path.islink(path):  # noqa: PTH114 - texts
            return allocated_bytes(Path(path))
    return 0


def are_below(model: Model, folder: Path) -> bool:
    """Whether all files of a model are below a folder, and none is in a Hugging Face cache."""
    return all(path.is_relative_to(folder) and not is_in_hub_cache(path) for path in map(Path, model.targets))


def is_in_hub_cache(path: Path) -> bool:
    """Whether a file is in a Hugging Face cache."""
    return "snapshots" in path.parts and any(part.startswith("models--") for part in path.parts)


def partial_requests(
    models_directory: Path,
    models: Iterable[Model],
    wanted: Collection[str],
    targets: Collection[str] | None = None,
) -> list[DownloadRequest | DownloadId]:
    """The requests that resume the partial files of `targets` (None: all) here; or the id of a model to update.

    The place of a file, `<owner>/<repo>/<path in repo>` or `<owner>/<repo>/@<commit>/<path in repo>`, shows what it
    belongs to. Targets that a queue has (`wanted`) are left out, as are files that a process is writing.
    """
    paths: dict[str, list[str]] = defaultdict(list)
    owners = {file.target: model.id for model in models for file in model.files}
    updated: dict[DownloadId, None] = {}
    for one in leftovers(models_directory):
        if one.is_in_use or one.target in wanted or (targets is not None and one.target not in targets):
            continue
        owner, name, *rest = Path(one.target).relative_to(models_directory.absolute()).parts
        if len(rest) > 1 and VERSION.fullmatch(rest[0]):
            rest = rest[1:]
            if (id_ := owners.get(str(models_directory.joinpath(owner, name, *rest)))) is not None:
                updated[id_] = None
                continue
        paths[f"{owner}/{name}"].append("/".join(rest))
    requests: list[DownloadRequest | DownloadId] = []
    for repo_id, found in paths.items():
        offered = variants_of(found).offered
        requests += [DownloadRequest(repo_id, one.files[0], to=str(models_directory)) for one in offered]
    return [*requests, *updated]


def write_preset(file: Path, models: Iterable[Model]) -> PresetFile:
    """Updates the file with the models on this machine; the old one remains complete until the new one is."""
    loadable = (model for model in models if model.paths and "block_count" in model.facts)  # no projectors and the like
    here = [model for model in loadable if all(map(os.path.exists, model.targets))]
    target = Path(os.path.realpath(file))  # a link remains a link
    if exists(target) and not is_file(target):  # a pipe or a device would be read without end, and replaced
        raise StorageError(f"{file} is not a file; name another file.")
    try:
        with storage_errors(file, "cannot be written", " Name a file in a folder that you can write."):
            text, left_out = merged_preset(target.read_text(encoding="utf-8") if exists(target) else "", here)
            replace_file(target, text.encode())
    except UnicodeError as error:
        raise StorageError(f"{file} is not text in UTF-8; name another file.") from error
    return PresetFile(str(target), len(here) - len(left_out), left_out)


# --- verifying ---


def verify_files(
    catalog: Catalog, engine: Engine, models: Sequence[Model], on_progress: OnWorkProgress | None
) -> list[Verification]:
    """Hashes every file of the models once, and records the results.

    A file that is missing, unreadable or was changed meanwhile keeps its record.
    """
    files = {file.target: file for model in models for file in model.files}
    wanted = [
        FileToCheck(one.target, one.size_bytes, one.sha256, catalog.block_digests(one.sha256 or ""))
        for one in files.values()
    ]
    check = engine.check(wanted)
    total_bytes, last = sum(file.size_bytes for file in wanted), None

    def report() -> None:
        nonlocal last
        if on_progress is not None and check.reading is not None and check.reading != last:
            last = index, done_bytes = check.reading
            path = wanted[index].path
            owner = next(str(model.id) for model in models if path in model.targets)
            on_progress(WorkProgress(path, min(done_bytes, total_bytes), total_bytes, id=owner))

    checked = {result.path: result for result in settled(check.answer, report)}
    at_s = time.time()
    recorded = (_to_record(file, checked.get(target), at_s) for target, file in files.items())
    catalog.update_files([file for file in recorded if file is not None])
    return [Verification(str(model.id), tuple(checked[file.target] for file in model.files)) for model in models]


def _to_record(file: StoredFile, result: CheckedFile | None, at_s: float) -> StoredFile | None:
    if result is None or result.mtime_ns is None or result.sha256 is None:
        return None
    if result.verdict == "wrong":
        return replace(file, mtime_ns=result.mtime_ns, wrong_ranges=result.wrong_ranges or (), verified_at_s=None)
    return replace(
        file,
        sha256=result.sha256,
        mtime_ns=result.mtime_ns,
        is_verified=file.is_verified or stated_sha256(Path(file.target)) == result.sha256,
        # If the Hub states no SHA-256, this one detects later changes.
        verified_at_s=at_s if result.verdict == "right" else None,
        wrong_ranges=None,
        block_digests=result.block_digests,
    )


# --- repairing ---


def repair_plan(model: Model, listing: RepoListing, models_directory: Path) -> PlannedDownload:
    """A plan that downloads the wrong and missing parts of a model and keeps the rest; `listing` is of its commit.

    Raises `RemoteChangedError` if the Hub no longer has these files, or has others with their names.
    """
    home = home_of(model, models_directory)
    return PlannedDownload(
        id=model.id,
        commit_sha=listing.commit_sha,
        label=model.label,
        files=tuple(file for stored in model.files for file in _repaired(model, stored, listing, models_directory)),
        reason="Repair: only the damaged parts are downloaded.",
        companions=companion_kinds(model),
        replaces=True,
        to=None if home == models_directory else str(home),
    )


def companion_kinds(model: Model) -> tuple[str, ...]:
    """The kinds of the companions that a model was downloaded with."""
    return tuple(dict.fromkeys(file.kind for file in model.files if file.kind != "shard"))


def _repaired(model: Model, stored: StoredFile, listing: RepoListing, models_directory: Path) -> list[PlannedFile]:
    """What repairs one file: the file of this name, its byte split's pieces, or this content under another name."""
    name, renamed = parse_path(stored.path_in_repo), listing.with_content(stored.sha256)
    found = listing.parts_of(name.path) or (() if renamed is None else (renamed,))
    if not found:
        raise RemoteChangedError(
            f"{listing.repo_id} no longer has {stored.path_in_repo} at the commit {listing.commit_sha[:8]}."
        )
    # A joined file has another digest than its parts: those of the same commit are the same.
    is_known = name.place != name.path and model.commit_sha in (None, listing.commit_sha)
    if not is_known and stored.sha256 not in (None, found[0].sha256):
        raise RemoteChangedError(
            f"{found[0].path} is another file on the Hub now, so the file here cannot be repaired. "
            f"Download the new version: %gguf update {model.id.typed}"
        )
    planned = [planned_file(models_directory, listing, found[0].path, stored.kind)]
    pieces = variants_of((file.path, file.size_bytes) for file in found).variants
    if name.place != name.path and pieces:
        planned = shard_files(models_directory, listing, pieces[0])
    target, kind, wrong = stored.target, stored.kind, stored.wrong_ranges
    return [
        replace(file, target=target, kind=kind, known_mtime_ns=stored.mtime_ns, wrong_ranges=wrong) for file in planned
    ]


def bytes_to_fetch(plan: PlannedDownload, looks: Looks) -> int | None:
    """Bytes that a repair downloads; None unknown."""
    return known_sum(
        file.size_bytes
        if looks.get(file.target) is None or file.wrong_ranges == ()
        else sum(end - start for start, end in file.wrong_ranges or () if not file.offset_bytes)  # of all parts
        for file in plan.files
    )


def refuse_unrepairable(model: Model) -> None:
    """Refuses, with a `RequestError`, a model of unknown repository or in the Hugging Face cache."""
    if not model.has_repository:
        raise RequestError(f"The repository of {model.id} is unknown, so nothing can be downloaded for it.")
    if any(is_in_hub_cache(Path(file.target)) for file in model.files):
        raise RequestError(
            f"The files of {model.id} belong to the Hugging Face cache, which is never changed here. "
            f"Download your own copy: %gguf queue {model.id.repo_id}"
        )
