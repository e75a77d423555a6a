"""The files of registered models on the disk: looked at, and deleted. Reads no content and knows no queue."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from gglib_nb.domain.deletion import Deletion, KeptFile
from gglib_nb.domain.model import Model
from gglib_nb.domain.model_summary import FileLook
from gglib_nb.errors import StorageError
from gglib_nb.system import allocated_bytes


def look_at(paths: Iterable[str]) -> dict[str, FileLook | None]:
    """What is to be seen of files; of a link, where it leads. None for what is not there."""
    return {path: _look(Path(path)) for path in paths}


def _look(path: Path) -> FileLook | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return FileLook(found.st_size, found.st_mtime_ns)


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
        elif Path(file.target).exists() or Path(file.target).is_symlink():
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
                f"{path} cannot be deleted: {error.strerror or error}. Look at the folder, then delete again."
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
            f"them there, and `%gguf forget {model.id}` takes the model off the list."
        )


def is_in_hub_cache(path: Path) -> bool:
    """Whether a file stands in a Hugging Face cache."""
    return "snapshots" in path.parts and any(part.startswith("models--") for part in path.parts)


def _remove_empty_folders(folder: Path, models_directory: Path) -> None:
    while folder != models_directory and folder.is_relative_to(models_directory):
        try:
            os.rmdir(folder)  # noqa: PTH106 - it refuses what is not empty, which is the point
        except OSError:
            return
        folder = folder.parent
