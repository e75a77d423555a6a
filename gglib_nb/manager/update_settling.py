"""Puts the new version of a model in the place of the old one, once all of it is here and verified.

A new version is fetched into a folder of its own beside the old one: `<owner>/<repo>/@<commit>/<path in repo>`. Then:

1. With `keeps_old` the old files move into a folder of their commit, and get a row: `owner/repo@<commit>:Q4_K_M`.
2. The catalog leads to the new version where it is. From here on whatever is interrupted, the model is whole.
3. The new files get the names of the old ones, one by one, by a link and a rename. Nobody's open file is written to.
4. The catalog leads to these names; the others, and what the new version has no more, are deleted.

Called on the thread that writes the catalog.
"""

import contextlib
import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.model import Model
from gglib_nb.domain.references import DownloadId
from gglib_nb.errors import CatalogDamagedError, CatalogError, GglibError, StorageError
from gglib_nb.manager.model_files import delete_files
from gglib_nb.queue.effects import RegisterModel
from gglib_nb.queue.events import Event, ModelRegistered, RegistrationFailed
from gglib_nb.settings import DownloadManagerConfig
from gglib_nb.system import sync_folder

_VERSION: Final = re.compile(r"@[0-9a-f]{8}")
_COMMIT_DIGITS: Final = 8


def version_path(models_directory: Path, repo_id: str, commit_sha: str, target: Path) -> Path:
    """Where a version of a file stands beside the one that has the usual name."""
    folder = models_directory.joinpath(*repo_id.split("/"))
    return folder / f"@{commit_sha[:_COMMIT_DIGITS]}" / target.relative_to(folder)


def usual_path(models_directory: Path, repo_id: str, target: Path) -> Path:
    """The usual name of a file that stands in the folder of its version; itself where it does not."""
    folder = models_directory.joinpath(*repo_id.split("/"))
    if not target.is_relative_to(folder):
        return target
    first, *rest = target.relative_to(folder).parts
    return folder.joinpath(*rest) if rest and _VERSION.fullmatch(first) else target


def is_settled(models_directory: Path, model: Model) -> bool:
    """Whether every file of a model has its usual name, or one that another version of it keeps on purpose."""
    if model.id.revision == model.commit_sha and model.commit_sha is not None:
        return True
    paths = (Path(file.target) for file in model.files if file.kind == "shard")
    return all(usual_path(models_directory, model.id.repo_id, path) == path for path in paths)


def register_download(catalog: Catalog, config: DownloadManagerConfig, effect: RegisterModel) -> Event:
    """Registers what was downloaded, or has an update take the old version's place; what became of that.

    Args:
        catalog: The models database.
        config: Of the manager.
        effect: What was downloaded.
    """
    plan = effect.plan
    model = Model(plan.id, plan.commit_sha, plan.label, effect.files, effect.at_s, hosts=effect.hosts)
    try:
        if plan.is_update:
            files = settle_update(catalog, model, config.models_directory, keeps_old=plan.keeps_old)
            return ModelRegistered(effect.attempt, time.time(), files)
        try:
            catalog.register(model)
        except CatalogDamagedError:
            catalog.register(model)  # in the new file that takes the damaged one's place
    except GglibError as error:
        return RegistrationFailed(effect.attempt, error, time.time())
    except Exception as error:  # noqa: BLE001 - a download must not stay `registering` for ever
        failure = CatalogError(f"It could not be registered ({error}); queueing it again tries again.")
        failure.__cause__ = error
        return RegistrationFailed(effect.attempt, failure, time.time())
    return ModelRegistered(effect.attempt, time.time())


def settle_update(catalog: Catalog, new: Model, models_directory: Path, *, keeps_old: bool) -> tuple[StoredFile, ...]:
    """Replaces the version of `new.id` that the catalog has; returns the files under the names they have then.

    Args:
        catalog: The models database.
        new: The new version, where it was fetched to.
        models_directory: The models folder.
        keeps_old: Keep the old version, under an id with its commit.

    Raises:
        StorageError: A file cannot be renamed; the catalog leads to the new version where it is.
        CatalogError: The models database cannot be written.
    """
    models = {str(model.id): model for model in catalog.models()}
    old = models.pop(str(new.id), None)
    others = {file.target: file for model in models.values() for file in model.files}
    try:
        # Before anything is recorded of the new version: what is interrupted here finds the old one when it is tried again.
        kept = _kept(catalog, old, models_directory) if keeps_old and old and old.commit_sha != new.commit_sha else None
        catalog.register(new)
        final = tuple(_named(file, new.id.repo_id, models_directory, others) for file in new.files)
    except OSError as error:
        raise StorageError(
            f"The new version of {new.id} could not take the old one's name ({error.strerror or error}); it is whole at "
            f"{new.paths[0]}. `%gguf update {new.id}` tries again."
        ) from error
    catalog.register(replace(new, files=final))
    in_use = {*others, *(file.target for file in final), *(kept.targets if kept else ())}
    delete_files(sorted({*new.targets, *(old.targets if old else ())} - in_use), models_directory)
    return final


def _kept(catalog: Catalog, old: Model, models_directory: Path) -> Model | None:
    """The old version under an id and names of its own; None where nobody knows its commit, or it stands elsewhere."""
    repo_id, commit_sha = old.id.repo_id, old.commit_sha
    folder = models_directory.joinpath(*repo_id.split("/"))
    if commit_sha is None or not all(Path(file.target).is_relative_to(folder) for file in old.files):
        return None
    files = []
    for file in old.files:
        place = version_path(
            models_directory, repo_id, commit_sha, usual_path(models_directory, repo_id, Path(file.target))
        )
        _link(Path(file.target), place)
        files.append(replace(file, target=str(place)))
    kept = replace(old, id=DownloadId(repo_id, old.id.quantization, commit_sha), files=tuple(files))
    catalog.register(kept)
    if not all(Path(file.target).exists() for file in old.files):  # without links, the files have moved
        catalog.register(replace(old, files=tuple(files)))
    return kept


def _named(file: StoredFile, repo_id: str, models_directory: Path, others: Mapping[str, StoredFile]) -> StoredFile:
    """The file under its usual name; as it is where another model needs what has that name now."""
    target = Path(file.target)
    usual = usual_path(models_directory, repo_id, target)
    other = others.get(str(usual))
    if usual == target or (other is not None and other.sha256 != file.sha256):
        return file
    _link(target, usual)
    sync_folder(usual.parent)
    return replace(file, target=str(usual))


def _link(source: Path, place: Path) -> None:
    """Gives a file another name, in the place of what may have it; where the filesystem has no links, instead of its own."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        return
    if place.exists() and source.samefile(place):
        return
    fresh = place.with_name(f"{place.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    try:
        os.link(source, fresh)
    except OSError:
        source.replace(place)
    else:
        fresh.replace(place)
