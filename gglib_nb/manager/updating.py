"""New versions of registered models: what has changed on the Hub, the plan to download it, and replacing the old one.

A check compares a file with another SHA-256 by its header and samples of its tensors, to distinguish a corrected chat
template from another quantization.

**Updating** downloads the new version to `<owner>/<repo>/@<commit>/<path in repo>`. Then, on the catalog's thread:

1. With `keeps_old`, the old files move into a folder of their commit, and get a row: `owner/repo@<commit>:Q4_K_M`.
2. The catalog points to the new version there: the model is complete, even if a later step is interrupted.
3. The new files get the names of the old ones by a link and a rename. No open file is written to.
4. The catalog points to these names; the others, and files that the new version no longer has, are deleted.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.download import PlannedDownload, StoredFile
from gglib_nb.domain.gguf import read_tensors
from gglib_nb.domain.gguf_reuse import Copy, find_candidates
from gglib_nb.domain.inspection import compare, inspection_of
from gglib_nb.domain.library import FileChange, ModelUpdate
from gglib_nb.domain.model import Model, remark_on
from gglib_nb.domain.names import DownloadId, parse_path
from gglib_nb.domain.plan import HubFile, RepoListing
from gglib_nb.engine.disk import reading
from gglib_nb.errors import (
    CatalogDamagedError,
    CatalogError,
    GglibError,
    GgufError,
    HubError,
    RequestError,
    StorageError,
)
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.library import are_below, delete_files, refuse_unrepairable, usual_path, with_companions
from gglib_nb.queue.effects import RegisterModel
from gglib_nb.queue.events import ModelRegistered
from gglib_nb.settings import DownloadManagerConfig
from gglib_nb.system import exists, sync_folder

_SAMPLE_BYTES: Final = 4096
_WINDOW_BYTES: Final = 1024**2


# --- what has changed ---


def check_update(hub: HubClient, catalog: Catalog, model: Model) -> ModelUpdate:
    """The changes of one model, which are recorded; if the hub refuses or does not answer, that is the `problem`."""
    if not model.has_repository:
        return ModelUpdate(str(model.id), None, None, None, (), "Its repository is unknown.")
    try:
        listing = hub.list_files(model.id.repo_id, model.id.revision)
        files = [_change(hub, model, file, listing) for file in model.files]
    except GglibError as error:
        return ModelUpdate(str(model.id), None, model.commit_sha, None, (), str(error))
    changed = [file.path_in_repo for file in files if file.change not in ("same", "gone", "unknown")]
    commits = hub.file_commits(listing.repo_id, listing.commit_sha, changed)
    for at, file in enumerate(files):
        if (commit := commits.get(file.path_in_repo)) is not None:
            files[at] = replace(file, commit_title=commit.title, commit_date=commit.date)
    kinds = {file.change for file in files}
    has_update = None if "unknown" in kinds else bool(kinds - {"same"})
    if has_update is not None:
        with contextlib.suppress(CatalogError):  # a database that cannot be written must not hide an update
            catalog.note_check(model.id, at_s=time.time(), latest_commit_sha=listing.commit_sha, has_update=has_update)
    return ModelUpdate(str(model.id), has_update, model.commit_sha, listing.commit_sha, tuple(files))


def _change(hub: HubClient, model: Model, file: StoredFile, listing: RepoListing) -> FileChange:
    path = file.path_in_repo
    if listing.commit_sha == model.commit_sha:
        return FileChange(path, "same")
    parts = listing.parts_of(path)
    if not parts:  # it may have another name now; compare digests
        return FileChange(path, "gone" if listing.with_content(file.sha256) is None else "same")
    if parse_path(path).place != path:
        before = hub.list_files(listing.repo_id, model.commit_sha).parts_of(path) if model.commit_sha else ()
        return FileChange(path, "same" if parts == before else "content")
    (remote,) = parts
    if file.sha256 is None or remote.sha256 is None:
        return FileChange(path, "content" if remote.size_bytes != file.size_bytes else "unknown")
    return FileChange(path, "same") if remote.sha256 == file.sha256 else _compared(hub, listing, remote, file)


def _compared(hub: HubClient, listing: RepoListing, remote: HubFile, file: StoredFile) -> FileChange:
    read_remote = partial(hub.read_range, listing.repo_id, listing.commit_sha, remote.path)
    try:
        with reading(Path(file.target)) as (read, size_bytes):
            mine = read_tensors(read, size_bytes)
            theirs = read_tensors(read_remote, remote.size_bytes or 0, window_bytes=_WINDOW_BYTES)
            common = [one.sources[0] for one in find_candidates(theirs.tensors, [mine.tensors])]
            agree = len(common) == len(mine.tensors) == len(theirs.tensors) and all(
                read(one.source_offset, one.length) == read_remote(one.target_offset, one.length)
                for one in _samples(common)
            )
    except (GgufError, HubError, OSError):
        return FileChange(file.path_in_repo, "content")  # it is known to be another file anyway
    before, after = (inspection_of(name, 0, [table]) for name, table in (("here", mine), ("on the Hub", theirs)))
    found = compare(before, after)
    return FileChange(
        file.path_in_repo,
        "metadata" if agree else "tensors",
        changed_keys=tuple(one.key for one in found.keys),
        template_diff=found.template_diff,
    )


def _samples(common: Sequence[Copy]) -> list[Copy]:
    """The middle of the first, the middle, the last and the largest of the tensors that two files have in common."""
    largest = sorted(common, key=lambda one: one.length)[-1:]
    chosen = dict.fromkeys((*common[:1], *common[len(common) // 2 :][:1], *common[-1:], *largest))
    starts = ((one, one.target_offset + max(0, one.length - _SAMPLE_BYTES) // 2) for one in chosen)
    return [one.within(start, min(start + _SAMPLE_BYTES, one.target_end)) for one, start in starts]


# --- a plan ---


def update_plan(model: Model, plan: PlannedDownload, models_directory: Path, *, keeps_old: bool) -> PlannedDownload:
    """Turns the plan of a fresh download of the same variant into an update; refuses to keep an unknown version."""
    if keeps_old and model.commit_sha is None:
        raise RequestError(
            f"The present version of {model.id} is unknown, so it cannot be kept under its commit. Export it first if "
            f"you need it, then update it without keeping it: %gguf update {model.id.typed}"
        )
    # A repository that was renamed on the Hub keeps its id and its folder here, so that the next update finds them.
    version = models_directory / model.id.repo_id / f"@{plan.commit_sha[:8]}"  # matches `VERSION`
    targets = [Path(file.target).relative_to(models_directory / plan.id.repo_id) for file in plan.files]
    pairs = zip(plan.files, targets, strict=True)
    files = tuple(replace(file, target=str(version / target), known_mtime_ns=None) for file, target in pairs)
    return replace(
        plan,
        id=model.id,
        files=files,
        reason=f"It is version {plan.commit_sha[:8]}. The current one is kept until this is verified.",
        donors=model.paths,
        is_update=True,
        keeps_old=keeps_old,
    )


def refuse_unupdatable(model: Model, models_directory: Path) -> None:
    """Refuses, with a `RequestError`, a model whose repository is unknown or whose files are elsewhere."""
    refuse_unrepairable(model)
    if not are_below(model, models_directory / model.id.repo_id):
        raise RequestError(
            f"The files of {model.id} are outside of the models folder, so they are not replaced. "
            f"Download the new version beside them: %gguf forget {model.id.typed}, then %gguf queue {model.id.typed}"
        )


def is_same_version(model: Model, fresh: PlannedDownload) -> bool:
    """Whether a download now would produce the files on the disk, by their digests."""
    here, there = (sorted((file.kind, file.sha256 or "") for file in one.files) for one in (model, fresh))
    return model.commit_sha == fresh.commit_sha or (all(sha256 for _, sha256 in there) and here == there)


# --- replacing the old version; `folder` is that of its repository ---


def register_download(catalog: Catalog, config: DownloadManagerConfig, effect: RegisterModel) -> ModelRegistered:
    """Registers a download if it should be, or replaces the old version by an update; returns the result."""
    plan, remark = effect.plan, ""
    files: tuple[StoredFile, ...] | None = None
    if not plan.add_to_db:
        return ModelRegistered(effect.attempt)
    model = Model(plan.id, plan.commit_sha, plan.label, effect.files, effect.at_s, hosts=effect.hosts)
    if plan.is_update:
        home = config.models_directory if plan.to is None else Path(plan.to)
        files = settle_update(catalog, model, home, keeps_old=plan.keeps_old)
    else:
        with contextlib.suppress(CatalogError):
            model = with_companions(model, catalog.models())
        for id_ in (plan.id, *effect.also):
            try:
                catalog.register(replace(model, id=id_))
            except CatalogDamagedError:
                catalog.register(replace(model, id=id_))  # the new file replaces the damaged one
    if not model.hosts or any(file.facts for file in model.files):  # else its files are on other machines
        with contextlib.suppress(CatalogError):
            remark = remark_on(model, catalog.models())
    return ModelRegistered(effect.attempt, files, remark)


def settle_update(catalog: Catalog, new: Model, models_directory: Path, *, keeps_old: bool) -> tuple[StoredFile, ...]:
    """Replaces the version of `new.id` in the catalog by `new`; returns the files with their new names.

    If a file cannot be renamed (`StorageError`), the catalog points to the new version at its present place.
    """
    models = {str(model.id): model for model in catalog.models()}
    old = models.pop(str(new.id), None)
    others = {file.target: file for model in models.values() for file in model.files}
    replaced = {*new.targets, *(old.targets if old else ()), *(old.replaces if old else ())}
    folder = models_directory / new.id.repo_id
    kept: frozenset[str] = frozenset()
    try:
        # Before the new version is recorded: after an interruption, the next attempt finds the old one.
        if keeps_old and old and old.commit_sha != new.commit_sha:
            kept = _keep(catalog, old, folder)
        catalog.register(replace(new, replaces=tuple(sorted(replaced - new.targets - kept))))
        final = tuple(_named(file, folder, replaced, others) for file in new.files)
    except OSError as error:
        raise StorageError(
            f"The new version of {new.id} could not replace the old one ({error.strerror or error}); it is complete at "
            f"{new.paths[0]}. `%gguf update {new.id.typed}` tries again."
        ) from error
    in_use = {*others, *(file.target for file in final), *kept}
    names = {target.casefold(): target for target in in_use}
    stale = tuple(sorted(one for one in replaced - in_use if not _is_one_file(one, names.get(one.casefold()))))
    catalog.register(replace(new, files=final, replaces=stale))
    delete_files(stale, models_directory)
    catalog.register(replace(new, files=final, replaces=()))
    return final


def _is_one_file(target: str, other: str | None) -> bool:
    """Whether two names that differ only in case name one file, as on macOS and Windows."""
    return other is not None and exists(Path(other)) and exists(Path(target)) and Path(target).samefile(other)


def _keep(catalog: Catalog, old: Model, folder: Path) -> frozenset[str]:
    """Gives the old version its own id and names, and returns them; none without a commit, or if it is elsewhere."""
    if old.commit_sha is None or not are_below(old, folder):
        return frozenset()
    version = folder / f"@{old.commit_sha[:8]}"
    files = tuple(
        _moved(file, version / usual_path(folder, Path(file.target)).relative_to(folder)) for file in old.files
    )
    id_ = DownloadId(old.id.repo_id, old.id.quantization, old.commit_sha)
    # Its commit never changes; what an interrupted update to it had to delete is left to the new version.
    kept = replace(old, id=id_, files=files, latest_commit_sha=old.commit_sha, has_update=False, replaces=())
    catalog.register(kept)
    if not all(exists(Path(file.target)) for file in old.files):  # on filesystems without links, the files have moved
        catalog.register(replace(old, files=files))
    return kept.targets


def _named(file: StoredFile, folder: Path, replaced: Iterable[str], others: Mapping[str, StoredFile]) -> StoredFile:
    """The file under its usual name, or unchanged if a file that is not `replaced`, and not the same, has that name."""
    usual = usual_path(folder, Path(file.target))
    if (other := others.get(str(usual))) is not None:
        may_move = other.sha256 == file.sha256
    else:  # without links, it may have been moved before an interruption
        may_move = (
            not exists(usual) or not exists(Path(file.target)) or any(_is_one_file(one, str(usual)) for one in replaced)
        )
    return _moved(file, usual) if may_move else file


def _moved(file: StoredFile, place: Path) -> StoredFile:
    """The file under another name, replacing a file of that name: a link, or renamed on filesystems without links."""
    source = Path(file.target)
    if exists(source) and not (exists(place) and source.samefile(place)):
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f"{place.name}.new")
        with contextlib.suppress(OSError):
            os.link(source, fresh)
        is_linked = exists(fresh) and fresh.samefile(source)  # perhaps by a killed attempt; another file is not ours
        try:
            (fresh if is_linked else source).replace(place)
        finally:
            if is_linked:
                fresh.unlink(missing_ok=True)
        sync_folder(place.parent)
    return replace(file, target=str(place))
