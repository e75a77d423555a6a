"""The files of registered models, and partial files, on the disk: looked at, and deleted. Reads no content and knows no queue."""

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from gglib_nb.domain.download import DownloadRequest
from gglib_nb.domain.library import Deletion, KeptFile
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import FileLook
from gglib_nb.domain.presets import PresetFile, merged_preset
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.variants import variants_of
from gglib_nb.engine.local import leftovers
from gglib_nb.errors import StorageError
from gglib_nb.system import allocated_bytes

VERSION: Final = re.compile(r"@[0-9a-f]{8}")
"""The folder of a new version, or of an old one that is kept, by the first digits of its commit."""


def look_at(paths: Iterable[str]) -> dict[str, FileLook | None]:
    """What is to be seen of files; of a link, where it leads. None for what is not there."""
    return {path: _look(Path(path)) for path in paths}


def _look(path: Path) -> FileLook | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return FileLook(found.st_size, found.st_mtime_ns, found.st_atime_ns)


def refuse_lost_folder(models_directory: Path, models: Iterable[Model]) -> None:
    """Refuses to write below a models folder that is not mounted: downloads would fill the disk under its mount point.

    It counts as lost when models are registered in it and none of their owners' folders exists. Creating the folder that the
    error names says that the models were deleted on purpose.

    Raises:
        StorageError: It is lost.
    """
    targets = [Path(target) for model in models if not model.hosts for target in model.targets]
    inside = [target.relative_to(models_directory) for target in targets if target.is_relative_to(models_directory)]
    owners = sorted({models_directory / target.parts[0] for target in inside})
    if not owners or any(os.path.lexists(owner) for owner in owners):
        return
    is_missing = not os.path.lexists(models_directory)
    raise StorageError(
        f"The models folder {models_directory} {'does not exist' if is_missing else 'is empty'}, but {len(inside)} files of "
        "registered models belong in it. If its disk is not mounted, mount it and try again. If they were deleted on "
        f"purpose, create the folder {models_directory if is_missing else owners[0]} and try again."
    )


def plan_deletion(model: Model, others: Iterable[Model]) -> Deletion:
    """What deleting a model would take from the disk.

    Args:
        model: The one.
        others: All other registered ones; what they use stays.

    Raises:
        StorageError: Its files belong to the Hugging Face cache, which has its own way of deleting.
    """
    users = {file.target: other for other in others for file in other.files}
    deleted, kept = [], []
    for file in model.files:
        if (user := users.get(file.target)) is not None:
            kept.append(KeptFile(file.target, f"{user.id} uses it"))
        elif os.path.lexists(file.target):
            _refuse_hub_cache(model, Path(file.target))
            deleted.append(file.target)
    freed = sum(_freed_bytes(Path(path)) for path in deleted)
    return Deletion(str(model.id), tuple(deleted), freed, tuple(kept), is_dry_run=True)


def delete_files(paths: Iterable[str], models_directory: Path) -> None:
    """Deletes files, and folders of the models folder that are empty then. Those that are gone already do not matter.

    Raises:
        StorageError: One cannot be deleted; those before it are.
    """
    for path in map(Path, paths):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be deleted: {error.strerror or error}. Check the folder, then try again."
            ) from error
        _remove_empty_folders(path.parent, models_directory)


def _freed_bytes(path: Path) -> int:
    with contextlib.suppress(OSError):
        if not path.is_symlink() and path.stat().st_nlink == 1:
            return allocated_bytes(path)
    return 0


def _refuse_hub_cache(model: Model, path: Path) -> None:
    if is_in_hub_cache(path):
        raise StorageError(
            f"The files of {model.id} belong to the Hugging Face cache: `hf cache rm model/{model.id.repo_id}` deletes "
            f"them there, and `%gguf forget {model.id}` removes the model from the list."
        )


def is_in_hub_cache(path: Path) -> bool:
    """Whether a file is in a Hugging Face cache."""
    return "snapshots" in path.parts and any(part.startswith("models--") for part in path.parts)


def _remove_empty_folders(folder: Path, models_directory: Path) -> None:
    while folder != models_directory and folder.is_relative_to(models_directory):
        try:
            os.rmdir(folder)  # noqa: PTH106 - it refuses what is not empty, which is the point
        except OSError:
            return
        folder = folder.parent


def partial_requests(
    models_directory: Path,
    models: Iterable[Model],
    wanted: Collection[str],
    targets: Collection[str] | None = None,
) -> list[DownloadRequest | DownloadId]:
    """What resumes the partial files in the models folder, by path: a request, or the id of a model to be updated.

    What a file belongs to is read from its place, `<owner>/<repo>/<path in repo>`, or `<owner>/<repo>/@<commit>/<path in repo>`
    of a new version; the files of a split model that exist are one request.

    Args:
        models_directory: The folder.
        models: The registered ones.
        wanted: Targets that are in a queue already; those are left out, and so are files that a process is writing.
        targets: Only partial files of these targets; None: all.
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
    requests = [request for repo_id, found in paths.items() for request in _requests(repo_id, found)]
    return [*requests, *updated]


def _requests(repo_id: str, paths: Iterable[str]) -> Iterator[DownloadRequest]:
    found = variants_of(paths)
    for variant in found.variants:
        yield DownloadRequest(repo_id, variant.files[0])
    if not found.variants:
        yield from (DownloadRequest(repo_id, companion.path) for companion in found.companions)


def write_preset(file: Path, models: Iterable[Model]) -> PresetFile:
    """Brings the file up to date with the models that are here; the old one stays whole until the new one is.

    Raises:
        StorageError: It cannot be read or written.
    """
    here = [model for model in models if _is_loadable(model)]
    try:
        target = Path(os.path.realpath(file))  # a link stays a link
        old = target.read_text(encoding="utf-8") if target.exists() else ""
        text, left_out = merged_preset(old, here)
        new = target.with_name(f"{target.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(target)
    except UnicodeError as error:
        raise StorageError(f"{file} is not text in UTF-8; name another file.") from error
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror or error}. Name another file.") from error
    return PresetFile(str(target), len(here) - len(left_out), left_out)


def _is_loadable(model: Model) -> bool:
    """Whether it is a model, not a projector or the like, and all its files are on this machine."""
    return bool(model.paths) and "block_count" in model.facts and all(map(os.path.exists, model.targets))
