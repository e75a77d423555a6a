"""Bundles: models carried to a machine without a network, verified as they are written and again as they are read.

Both directions use the same copy: it hashes every byte, continues after an interruption, and gives a file its name only when
its SHA-256 matches.
"""

import errno
import glob
import hashlib
import io
import os
import stat
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.importing import (
    LONGEST_BUNDLE_MANIFEST_BYTES,
    MANIFEST_NAME,
    BundledFile,
    BundledModel,
    BundleManifest,
    ImportProgress,
    decode_manifest,
    encode_manifest,
)
from gglib_nb.domain.model import Model
from gglib_nb.domain.references import target_path
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import disk_full, open_regular, storage_error
from gglib_nb.engine.local import check_split_set
from gglib_nb.errors import DownloadInterruptedError, IntegrityError, RequestError, StorageError
from gglib_nb.manager.importing import stored_file
from gglib_nb.system import free_bytes, lock_file, open_file, sync_folder

_SLICE_BYTES: Final = 4 * 1024**2
_CARD: Final = "README.md"
# If a file system refuses a file for its size, the size of its parts is a multiple of this.
_PART_UNIT_BYTES: Final = 1024**2
# Held while a manifest is read and written again: another export may write the same one.
_MANIFEST: Final = threading.Lock()

_Pieces = Sequence[tuple[Path, int]]
"""Files and their sizes, which are one file together."""


class BundleProgress(Value, frozen=True):
    """The progress of an export or import: the file that is being written or checked, and the bytes of all files."""

    path: str
    done_bytes: int
    total_bytes: int


OnBundleProgress = Callable[[BundleProgress], None]


class BundleReport(Value, frozen=True):
    """The result of an export into a folder: the ids of the models, and how many of their bytes were linked, not copied."""

    folder: str
    models: tuple[str, ...]
    size_bytes: int
    linked_bytes: int


# --- Export -----------------------------------------------------------------------------------------------------------


def export_models(
    models: Sequence[Model],
    folder: Path,
    *,
    read_card: Callable[[Model], bytes | None] = lambda _model: None,
    on_progress: OnBundleProgress | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> BundleReport:
    """Write a bundle, or add to one, as documented for the operation `export`.

    Each model is in the manifest only once all of its files are verified. `on_progress` and `is_stopped` are called after every
    few megabytes; if it was stopped, it raises `DownloadInterruptedError` and continues the next time. May raise `OSError`.
    """
    for model in models:
        _check_files(model)
    folder.mkdir(parents=True, exist_ok=True)
    copier = _Copier(sum(model.size_bytes for model in models), on_progress, is_stopped)
    for model in models:
        repo_id = model.id.repo_id
        # SHA-256 by path and by the id of the model that has the file.
        recorded: dict[str, dict[str, str]] = defaultdict(dict)
        for one in _present_manifest(folder).models:
            for bundled in one.files if one.download_id.repo_id == repo_id else ():
                recorded[bundled.path_in_repo][one.id] = bundled.sha256
        places = [target_path(folder, repo_id, file.path_in_repo) for file in model.files]
        device = folder.stat().st_dev
        copied = (one for one, place in zip(model.files, places, strict=True) if not place.exists())
        _check_space(folder, sum(one.size_bytes for one in copied if Path(one.target).stat().st_dev != device))
        files = tuple(
            copier.export(model, file, place, recorded[file.path_in_repo])
            for file, place in zip(model.files, places, strict=True)
        )
        card = None if repo_id.startswith("local/") else read_card(model)
        licence, card_path = model.fact("licence", str), None if card is None else _CARD
        entry = BundledModel(str(model.id), model.commit_sha, model.label, licence, card_path, files)
        with _MANIFEST:
            place = target_path(folder, repo_id, _CARD)
            if card is not None and not place.exists():  # a README may be the user's own
                _write(place, card)
            _write(folder / MANIFEST_NAME, encode_manifest(_present_manifest(folder).with_model(entry)))
    return BundleReport(str(folder), tuple(str(model.id) for model in models), copier.total_bytes, copier.linked_bytes)


def _present_manifest(folder: Path) -> BundleManifest:
    return read_manifest(folder) if (folder / MANIFEST_NAME).exists() else BundleManifest()


def _check_files(model: Model) -> None:
    for file in model.files:
        with storage_errors(Path(file.target)):
            size_bytes = Path(file.target).stat().st_size
        if size_bytes != file.size_bytes:
            raise StorageError(
                f"{file.target} has {size_bytes:,} bytes instead of {file.size_bytes:,}. Run %gguf repair {model.id} first."
            )


# --- Import -----------------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> BundleManifest:
    """The manifest of a bundle. Raises `StorageError`, and `RequestError` for anything that is not allowed in a bundle."""
    path = folder / MANIFEST_NAME
    with _reading(path) as file:
        data = file.read(LONGEST_BUNDLE_MANIFEST_BYTES + 1)
    if len(data) > LONGEST_BUNDLE_MANIFEST_BYTES:
        raise RequestError(f"{path} is too large for a manifest. Export the bundle again.")
    return decode_manifest(data)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle."""
    try:
        return stat.S_ISREG((folder / MANIFEST_NAME).lstat().st_mode)
    except OSError:
        return False


def import_models(
    folder: Path,
    models_directory: Path,
    register: Callable[[Model], None],
    *,
    registered: Iterable[Model] = (),
    on_progress: Callable[[ImportProgress], None] | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> tuple[Model, ...]:
    """Copy the models of a bundle into the models folder and register each under the repository it came from.

    Every file is hashed while it is copied, and a damaged one is not registered. Existing files are verified and kept, including
    those of a registered model in another folder. Stopping is as for `export_models`.
    """
    manifest = read_manifest(folder)
    count = sum(len(model.files) for model in manifest.models)

    def report(progress: BundleProgress) -> None:
        if on_progress is not None:
            on_progress(ImportProgress(progress.path, 0, count, progress.done_bytes, progress.total_bytes))

    copier = _Copier(sum(model.size_bytes for model in manifest.models), report, is_stopped)
    models = {model.id: model for model in registered}
    imported: list[Model] = []
    for bundled in manifest.models:
        id_ = bundled.download_id
        known = models.get(id_)
        if known is None or not _has_files(known, bundled):
            known = None
            targets = [target_path(models_directory, id_.repo_id, file.path_in_repo) for file in bundled.files]
        else:
            places = {file.path_in_repo: Path(file.target) for file in known.files}
            targets = [places[file.path_in_repo] for file in bundled.files]
        pairs = list(zip(bundled.files, targets, strict=True))
        _check_space(models_directory, sum(file.size_bytes for file, target in pairs if not target.exists()))
        files = tuple(copier.take(folder / id_.repo_id, *pair) for pair in pairs)
        check_split_set(files)
        found = Model(id_, bundled.commit_sha, bundled.label, files, time.time(), origin="import")
        imported.append(found if known is None else replace(known, files=files))
        register(imported[-1])
    return tuple(imported)


def _has_files(model: Model, bundled: BundledModel) -> bool:
    wanted, recorded = ({file.path_in_repo: file.sha256 for file in one.files} for one in (bundled, model))
    return model.origin == "hub" and wanted == recorded and all(Path(file.target).exists() for file in model.files)


# --- Copying ----------------------------------------------------------------------------------------------------------


class _Copier:
    """Hashes, links and copies the files of one export or import."""

    def __init__(self, total_bytes: int, on_progress: OnBundleProgress | None, is_stopped: Callable[[], bool]) -> None:
        self.total_bytes: Final = total_bytes
        self.linked_bytes = 0
        self._done_bytes = 0
        self._on_progress: Final = on_progress
        self._is_stopped: Final = is_stopped

    def export(self, model: Model, file: StoredFile, target: Path, recorded: Mapping[str, str]) -> BundledFile:
        """Links or copies a file of a model into a bundle; a damaged one gets no place there.

        `recorded` has the SHA-256 of this file in the manifest, by model. A file of another model is not replaced, nor one
        that the manifest does not name.
        """
        source = Path(file.target)
        advice = f"Run %gguf repair {model.id}, then export again."
        parts: tuple[int, ...] = ()
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            others = {sha256 for id_, sha256 in recorded.items() if id_ != str(model.id)}
            if others and others != {file.sha256 or self._sha256_of(source)}:
                raise _occupied(target, model)
            if not recorded and target.exists() and not source.samefile(target):  # perhaps of an interrupted export
                sha256 = self._sha256_of(target)
                if sha256 != (file.sha256 or self._sha256_of(source)):
                    raise _occupied(target, model)
            elif _is_linked(source, target):
                self.linked_bytes += file.size_bytes
                sha256 = self._recorded_sha256(source, file) or self._sha256_of(source)
                if sha256 != (file.sha256 or sha256):
                    if source.resolve() != target.resolve():  # a bundle in the models folder has no second name
                        target.unlink(missing_ok=True)
                    raise _damaged(source, file.sha256, sha256, advice)
            else:
                sha256, parts = self._copy_verified([source], target, file.size_bytes, file.sha256, advice)
        return BundledFile(file.path_in_repo, file.kind, file.size_bytes, sha256, parts, file.is_verified)

    def _recorded_sha256(self, source: Path, file: StoredFile) -> str | None:
        """Its digest, if that was right and the file has not been written since."""
        if not file.is_verified or file.wrong_ranges is not None or source.stat().st_mtime_ns != file.mtime_ns:
            return None
        self._advance(source, file.size_bytes)
        return file.sha256

    def take(self, repository: Path, file: BundledFile, target: Path) -> StoredFile:
        """Copies a file of a repository in a bundle to its target; one with the same content stays."""
        with storage_errors(target):
            if was_present := target.exists():
                if self._sha256_of(target) != file.sha256:
                    raise StorageError(f"Another file is stored at {target}. Move or delete it, then import again.")
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                sources = [repository / path for path in file.stored_paths]
                advice = "Export the bundle again."
                self._copy_verified(sources, target, file.size_bytes, file.sha256, advice, may_split=False)
            stored = stored_file(target, file.path_in_repo, file.kind, file.sha256)
        return replace(stored, is_verified=file.is_verified, was_present=was_present, verified_at_s=time.time())

    def _advance(self, path: Path, count: int) -> None:
        """Counts bytes as done; if it was stopped, written data is kept and continued next time."""
        self._done_bytes += count
        if self._is_stopped():
            raise DownloadInterruptedError(f"Stopped at {path.name}; copied files are kept. Run it again to continue.")
        if self._on_progress is not None:
            done_bytes = min(self._done_bytes, self.total_bytes)
            self._on_progress(BundleProgress(str(path), done_bytes, self.total_bytes))

    def _sha256_of(self, path: Path) -> str:
        digest = hashlib.sha256()
        self._hash(path, digest)
        return digest.hexdigest()

    def _hash(self, path: Path, digest: "hashlib._Hash", limit_bytes: int = sys.maxsize) -> int:
        count = 0
        with _reading(path) as file:
            while data := file.read(min(_SLICE_BYTES, limit_bytes - count)):
                digest.update(data)
                count += len(data)
                self._advance(path, len(data))
        return count

    def _copy_verified(
        self,
        sources: Sequence[Path],
        target: Path,
        size_bytes: int,
        sha256: str | None,
        advice: str,
        *,
        may_split: bool = True,
    ) -> tuple[str, tuple[int, ...]]:
        """Copies a file, or joins its parts, hashing every byte; continues where an earlier copy stopped.

        With `may_split`, the copy is stored in parts if the file system cannot store it in one piece. Returns its SHA-256 and
        the sizes of these parts.
        """
        for source in sources:
            if not source.is_file():
                raise StorageError(f"{source} is missing. {advice}")
        parts = _existing_parts(target, size_bytes) if may_split else []
        pieces: _Pieces = parts or [(target, size_bytes)]
        try:
            actual, has_old = self._copy(sources, pieces)
        except StorageError as error:
            is_too_large = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EFBIG
            if not is_too_large or not may_split or parts:
                raise
            # The bytes written before the file system refused more are the first part.
            limit_bytes = _temporary(target).stat().st_size // _PART_UNIT_BYTES * _PART_UNIT_BYTES
            if limit_bytes == 0:
                raise
            pieces = parts = _parts(target, size_bytes, limit_bytes)
            os.truncate(_temporary(target), limit_bytes)
            _temporary(target).replace(_temporary(parts[0][0]))
            actual, has_old = self._copy(sources, pieces)
        if has_old and sha256 not in (None, actual):  # the bytes of an earlier copy may be the wrong ones
            _delete(pieces)
            actual, _ = self._copy(sources, pieces)
        if sha256 not in (None, actual):
            _delete(pieces)
            raise _damaged(sources[0], sha256, actual, advice)
        return actual, tuple(size for _, size in parts)

    def _copy(self, sources: Sequence[Path], pieces: _Pieces) -> tuple[str, bool]:
        """Copies the sources, which are one file, to the pieces; returns the SHA-256, and whether an earlier copy left bytes."""
        digest, begin, has_old = hashlib.sha256(), 0, False
        for target, size_bytes in pieces:
            if target.exists() and target.stat().st_size == size_bytes:
                has_old |= self._hash(target, digest, size_bytes) > 0
            else:
                has_old |= self._complete(sources, begin, target, size_bytes, digest)
            begin += size_bytes
        return digest.hexdigest(), has_old

    def _complete(
        self, sources: Sequence[Path], begin: int, target: Path, size_bytes: int, digest: "hashlib._Hash"
    ) -> bool:
        """Writes what is missing of a target, whose first byte is at `begin` of the sources; returns whether it had bytes."""
        temporary = _temporary(target)
        with storage_errors(target):
            with io.FileIO(open_file(temporary, os.O_WRONLY | os.O_CREAT, follow_links=False), "wb") as file:
                if not lock_file(file.fileno()):
                    raise StorageError(
                        f"Another export or import is writing {target}. Run this again when it has ended."
                    )
                begun = at = self._hash(temporary, digest, size_bytes)
                file.truncate(at)
                file.seek(at)
                slices = _slices(sources, begin + at)
                while at < size_bytes:
                    data = next(slices, b"")[: size_bytes - at]
                    if not data:
                        raise StorageError("The source became shorter while it was copied. Run it again.")
                    digest.update(data)
                    at += len(data)
                    left = memoryview(data)
                    while left:
                        left = left[file.write(left) or 0 :]
                    self._advance(target, len(data))
                os.fsync(file.fileno())
            temporary.replace(target)
            sync_folder(target.parent)
        return begun > 0


def _slices(sources: Sequence[Path], position: int) -> Iterator[bytes]:
    """The bytes of the sources, as if they were one file, from a position on."""
    for path in sources:
        with _reading(path) as file:
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(min(position, size_bytes))
            position = max(0, position - size_bytes)
            while data := file.read(_SLICE_BYTES):
                yield data


def _existing_parts(target: Path, size_bytes: int) -> _Pieces:
    """The parts in which an earlier copy stored a file; empty if there are none."""
    for first in target.parent.glob(f"{glob.escape(target.name)}.part1of*[0-9]"):
        if part_bytes := first.stat().st_size:
            parts = _parts(target, size_bytes, part_bytes)
            return parts if parts[0][0] == first else []
    return []


def _parts(target: Path, size_bytes: int, limit_bytes: int) -> _Pieces:
    sizes = [min(limit_bytes, size_bytes - begin) for begin in range(0, size_bytes, limit_bytes)]
    return [
        (target.with_name(f"{target.name}.part{number}of{len(sizes)}"), size) for number, size in enumerate(sizes, 1)
    ]


def _delete(pieces: _Pieces) -> None:
    for path, _ in pieces:
        path.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    return target.with_name(f"{target.name}.copying")


def _is_linked(source: Path, target: Path) -> bool:
    """Whether both are one file, which is linked now if there is none and the disk can do that."""
    if target.exists():
        return source.samefile(target)
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _write(path: Path, data: bytes) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        temporary.unlink(missing_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
        sync_folder(path.parent)


def _check_space(folder: Path, needed_bytes: int) -> None:
    left_bytes = free_bytes(folder)
    if left_bytes is not None and left_bytes < needed_bytes:
        raise disk_full(folder, needed_bytes, left_bytes)


def _occupied(target: Path, model: Model) -> StorageError:
    return StorageError(f"Another file is stored at {target}. Export {model.id} into another folder.")


def _damaged(path: Path, expected: str | None, actual: str, advice: str) -> IntegrityError:
    return IntegrityError(f"{path} is damaged: its SHA-256 is wrong. {advice}", expected or "", actual)


@contextmanager
def _reading(path: Path) -> Iterator[io.FileIO]:
    """A regular file, opened without blocking on a pipe."""
    with storage_errors(path), io.FileIO(open_regular(path), "rb") as file:
        yield file


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Maps errors of the system to ours, in one place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EFBIG, errno.ENOSPC, errno.EDQUOT):
            raise storage_error(error, path) from error
        raise StorageError(f"{error.filename or path} cannot be used: {error.strerror or error}.") from error
