"""Bundles: models carried to a machine without a network, verified as they are written and again as they are read.

Plain blocking functions for a worker thread. Both directions use the same copy: it hashes every byte, continues after an
interruption, and gives a file its name only when its SHA-256 matches.
"""

import contextlib
import errno
import glob
import hashlib
import io
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gglib_nb.domain.bundle import (
    LONGEST_MANIFEST_BYTES,
    MANIFEST_NAME,
    BundledFile,
    BundledModel,
    BundleManifest,
    decode_manifest,
    encode_manifest,
)
from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.importing import ImportProgress
from gglib_nb.domain.model import Model
from gglib_nb.domain.places import target_path
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import disk_full, open_regular, storage_error
from gglib_nb.engine.local import check_split_set
from gglib_nb.errors import DownloadInterruptedError, IntegrityError, RequestError, StorageError
from gglib_nb.manager.importing import stored_file
from gglib_nb.system import free_bytes, open_file, sync_folder

_SLICE_BYTES: Final = 4 * 1024**2
_CARD: Final = "README.md"
_TEMPORARY: Final = ".copying"
# If a file system refuses a file for its size, the size of its parts is a multiple of this.
_PART_UNIT_BYTES: Final = 1024**2

_Pieces = Sequence[tuple[Path, int]]
"""Consecutive files, with their sizes."""

ReadCard = Callable[[Model], bytes | None]
"""The model card of a model's repository; None if it cannot be read."""


class BundleProgress(Value, frozen=True):
    """The progress of an export or import.

    Attributes:
        path: The file that is being written or checked.
        done_bytes: Bytes of all files that are done.
        total_bytes: Bytes of all files.
    """

    path: str
    done_bytes: int
    total_bytes: int


OnBundleProgress = Callable[[BundleProgress], None]


class BundleReport(Value, frozen=True):
    """The result of an export.

    Attributes:
        folder: The bundle.
        models: Ids of the models that were written, in order.
        size_bytes: Bytes of their files.
        linked_bytes: Of these, bytes that were linked instead of copied.
    """

    folder: str
    models: tuple[str, ...]
    size_bytes: int
    linked_bytes: int


class Bundler:
    """One export or import: counts finished bytes and can be stopped."""

    def __init__(
        self,
        total_bytes: int,
        on_progress: OnBundleProgress | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.linked_bytes: int = 0
        self._total_bytes: Final = total_bytes
        self._on_progress: Final = on_progress
        self._is_stopped: Final = is_stopped
        self._done_bytes = 0

    def advance(self, path: Path, count: int) -> None:
        """Count bytes as finished.

        Raises:
            DownloadInterruptedError: It was stopped; written data is kept and continued next time.
        """
        self._done_bytes += count
        if self._is_stopped():
            raise DownloadInterruptedError(f"Stopped at {path.name}; copied files are kept. Run it again to continue.")
        if self._on_progress is not None:
            self._on_progress(BundleProgress(str(path), min(self._done_bytes, self._total_bytes), self._total_bytes))

    def sha256_of(self, path: Path) -> str:
        """The SHA-256 of a file."""
        digest = hashlib.sha256()
        self.hash_file(path, digest)
        return digest.hexdigest()

    def hash_file(self, path: Path, digest: "hashlib._Hash", limit_bytes: int = sys.maxsize) -> int:
        """Feed a file to a digest; returns its number of bytes."""
        count = 0
        with _reading(path) as file:
            while data := file.read(min(_SLICE_BYTES, limit_bytes - count)):
                digest.update(data)
                count += len(data)
                self.advance(path, len(data))
        return count


# --- Export -----------------------------------------------------------------------------------------------------------


def export_models(
    models: Sequence[Model],
    folder: Path,
    *,
    read_card: ReadCard = lambda _model: None,
    on_progress: OnBundleProgress | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> BundleReport:
    """Write a bundle, or add to one, as documented for the operation `export`.

    Files of an earlier export are verified and kept; an interrupted copy is continued. Each model is in the
    manifest only once all of its files are verified. `on_progress` and `is_stopped` are called after every few megabytes.

    Raises:
        RequestError: The folder holds a file of another kind under the manifest's name.
        DownloadInterruptedError: It was stopped; the bundle can be continued later.
    """
    total_bytes = sum(model.size_bytes for model in models)
    for model in models:
        _check_files(model)
    with _storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(folder) if (folder / MANIFEST_NAME).exists() else BundleManifest()
    bundler = Bundler(total_bytes, on_progress, is_stopped)
    for model in models:
        _check_space(folder, _bytes_to_copy(model, folder))
        files = tuple(_export_file(bundler, folder, model, file) for file in model.files)
        card = _export_card(folder, model, read_card)
        manifest = manifest.with_model(
            BundledModel(str(model.id), model.commit_sha, model.label, _licence(model), card, files)
        )
        _write(folder / MANIFEST_NAME, encode_manifest(manifest))
    return BundleReport(str(folder), tuple(str(model.id) for model in models), total_bytes, bundler.linked_bytes)


def _check_files(model: Model) -> None:
    for file in model.files:
        with _storage_errors(Path(file.target)):
            found = Path(file.target).stat()
            if found.st_size != file.size_bytes:
                raise StorageError(
                    f"{file.target} has {found.st_size:,} bytes instead of {file.size_bytes:,}. "
                    f"Run %gguf repair {model.id} first."
                )


def _bytes_to_copy(model: Model, folder: Path) -> int:
    device = folder.stat().st_dev
    return sum(
        file.size_bytes
        for file in model.files
        if Path(file.target).stat().st_dev != device and not _place(folder, model, file.path_in_repo).exists()
    )


def _place(folder: Path, model: Model, path_in_repo: str) -> Path:
    return target_path(folder, model.id.repo_id, path_in_repo)


def _export_file(bundler: Bundler, folder: Path, model: Model, file: StoredFile) -> BundledFile:
    source, target = Path(file.target), _place(folder, model, file.path_in_repo)
    with _storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    advice = f"Run %gguf repair {model.id}, then export again."
    parts: tuple[int, ...] = ()
    if _is_same_file(source, target) or (not target.exists() and _link(source, target)):
        bundler.linked_bytes += file.size_bytes
        sha256 = file.sha256 if _is_untouched(source, file) else None
        if sha256 is not None:
            bundler.advance(source, file.size_bytes)
        elif (sha256 := bundler.sha256_of(source)) != (file.sha256 or sha256):
            if os.path.realpath(source) != os.path.realpath(target):  # a bundle in the models folder has no second name
                target.unlink(missing_ok=True)
            raise _damaged(source, file.sha256, sha256, advice)
    else:
        sha256, parts = _copy_verified(bundler, [source], target, file.size_bytes, file.sha256, advice)
    return BundledFile(file.path_in_repo, file.kind, file.size_bytes, sha256, parts, file.is_verified)


def _is_untouched(source: Path, file: StoredFile) -> bool:
    """Whether its digest was right and it has not been written since."""
    return file.is_verified and file.wrong_ranges is None and source.stat().st_mtime_ns == file.mtime_ns


def _export_card(folder: Path, model: Model, read_card: ReadCard) -> str | None:
    if model.id.repo_id.startswith("local/") or (card := read_card(model)) is None:
        return None
    _write(_place(folder, model, _CARD), card)
    return _CARD


def _licence(model: Model) -> str | None:
    licence = model.facts.get("licence")
    return licence if isinstance(licence, str) else None


# --- Import -----------------------------------------------------------------------------------------------------------


def read_manifest(folder: Path) -> BundleManifest:
    """The manifest of a bundle.

    Raises:
        RequestError: It is none, or contains an entry that is not allowed in a bundle.
        StorageError: It cannot be read.
    """
    path = folder / MANIFEST_NAME
    with _reading(path) as file:
        data = file.read(LONGEST_MANIFEST_BYTES + 1)
    if len(data) > LONGEST_MANIFEST_BYTES:
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

    Every file is hashed while it is copied. Existing files are verified and kept, including those of a registered model
    in another folder; an interrupted copy is continued. `on_progress` and `is_stopped` are called after every few megabytes.

    Raises:
        RequestError: The manifest contains an entry that is not allowed in a bundle.
        StorageError: A file is missing, cannot be written, or another file has its place.
        IntegrityError: A file of the bundle is damaged; it is not registered.
        DownloadInterruptedError: It was stopped; the import can be continued later.
    """
    manifest = read_manifest(folder)
    count = sum(len(model.files) for model in manifest.models)

    def report(progress: BundleProgress) -> None:
        if on_progress is not None:
            on_progress(ImportProgress(progress.path, 0, count, progress.done_bytes, progress.total_bytes))

    bundler = Bundler(sum(model.size_bytes for model in manifest.models), report, is_stopped)
    imported: list[Model] = []
    models = {model.id: model for model in registered}
    for bundled in manifest.models:
        id_ = bundled.download_id
        known = models.get(id_)
        if known is not None and not _has_files(known, bundled):
            known = None
        stored = {} if known is None else {file.path_in_repo: Path(file.target) for file in known.files}
        targets = [
            stored.get(file.path_in_repo) or target_path(models_directory, id_.repo_id, file.path_in_repo)
            for file in bundled.files
        ]
        missing_bytes = sum(file.size_bytes for file, at in zip(bundled.files, targets, strict=True) if not at.exists())
        _check_space(models_directory, missing_bytes)
        files = tuple(
            _import_file(bundler, folder, id_.repo_id, file, target)
            for file, target in zip(bundled.files, targets, strict=True)
        )
        check_split_set(files)
        if known is None:
            model = Model(id_, bundled.commit_sha, bundled.label, files, time.time(), origin="import")
        else:
            model = replace(known, files=files)
        register(model)
        imported.append(model)
    return tuple(imported)


def _has_files(model: Model, bundled: BundledModel) -> bool:
    """Whether the model has exactly the files of a bundle, as recorded, and they exist."""
    wanted = {file.path_in_repo: file.sha256 for file in bundled.files}
    recorded = {file.path_in_repo: file.sha256 for file in model.files}
    return model.origin == "hub" and wanted == recorded and all(Path(file.target).exists() for file in model.files)


def _import_file(bundler: Bundler, folder: Path, repo_id: str, file: BundledFile, target: Path) -> StoredFile:
    was_present = target.exists()
    if was_present:
        if bundler.sha256_of(target) != file.sha256:
            raise StorageError(f"Another file is stored at {target}. Move or delete it, then import again.")
    else:
        sources = [target_path(folder, repo_id, path) for path in file.stored_paths]
        with _storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        advice = "Export the bundle again."
        _copy_verified(bundler, sources, target, file.size_bytes, file.sha256, advice, may_split=False)
    with _storage_errors(target):
        stored = stored_file(target, file.path_in_repo, file.kind, file.sha256)
    return replace(stored, is_verified=file.is_verified, was_present=was_present, verified_at_s=time.time())


# --- Copying ----------------------------------------------------------------------------------------------------------


class _TooLargeError(StorageError):
    """The file system cannot store a file of this size."""


def _copy_verified(
    bundler: Bundler,
    sources: Sequence[Path],
    target: Path,
    size_bytes: int,
    sha256: str | None,
    advice: str,
    *,
    may_split: bool = True,
) -> tuple[str, tuple[int, ...]]:
    """Copy a file, or join its parts, hashing every byte; continues where an earlier copy stopped.

    `sha256` of None is unknown, `advice` says what to do if the source is damaged, and with `may_split` the copy is stored in
    parts if the file system cannot store it in one piece. Returns its SHA-256 and the sizes of these parts.
    """
    for source in sources:
        if not source.is_file():
            raise StorageError(f"{source} is missing. {advice}")
    pieces = [(source, source.stat().st_size) for source in sources]
    whole: _Pieces = [(target, size_bytes)]
    targets = (_existing_parts(target, size_bytes) if may_split else []) or whole
    try:
        actual, kept_bytes = _copy(bundler, pieces, targets)
    except _TooLargeError:
        # The bytes written before the file system refused more are the first part.
        limit_bytes = _temporary(target).stat().st_size // _PART_UNIT_BYTES * _PART_UNIT_BYTES
        if not may_split or targets is not whole or limit_bytes == 0:
            raise
        targets = _parts(target, size_bytes, limit_bytes)
        with _storage_errors(target):
            os.truncate(_temporary(target), limit_bytes)
            _temporary(target).replace(_temporary(targets[0][0]))
        actual, kept_bytes = _copy(bundler, pieces, targets)
    if kept_bytes and sha256 not in (None, actual):  # the bytes of an earlier copy may be the wrong ones
        _delete(targets)
        actual, _ = _copy(bundler, pieces, targets)
    if sha256 not in (None, actual):
        _delete(targets)
        raise _damaged(sources[0], sha256, actual, advice)
    return actual, () if targets is whole else tuple(size for _, size in targets)


def _existing_parts(target: Path, size_bytes: int) -> _Pieces:
    """The parts in which an earlier copy stored a file; empty if there are none."""
    for first in target.parent.glob(f"{glob.escape(target.name)}.part1of*"):
        if first.suffix != _TEMPORARY and (part_bytes := first.stat().st_size):
            parts = _parts(target, size_bytes, part_bytes)
            return parts if parts[0][0] == first else []
    return []


def _parts(target: Path, size_bytes: int, limit_bytes: int) -> _Pieces:
    """The names and sizes of a file's parts, none of which is larger than the limit."""
    sizes = [min(limit_bytes, size_bytes - begin) for begin in range(0, size_bytes, limit_bytes)]
    return [
        (target.with_name(f"{target.name}.part{number}of{len(sizes)}"), size) for number, size in enumerate(sizes, 1)
    ]


def _delete(targets: _Pieces) -> None:
    for path, _ in targets:
        path.unlink(missing_ok=True)


def _copy(bundler: Bundler, sources: _Pieces, targets: _Pieces) -> tuple[str, int]:
    """Copy sources, one after another, to targets; returns the digest of all, and the bytes that an earlier copy left."""
    digest = hashlib.sha256()
    kept_bytes = begin = 0
    for target, size_bytes in targets:
        is_there, temporary, kept = target.exists() and target.stat().st_size == size_bytes, _temporary(target), 0
        if is_there or (temporary.is_file() and not temporary.is_symlink()):
            kept = bundler.hash_file(target if is_there else temporary, digest, size_bytes)
        kept_bytes += kept
        if not is_there:
            _append(bundler, sources, begin, target, kept, size_bytes, digest)
        begin += size_bytes
    return digest.hexdigest(), kept_bytes


def _append(
    bundler: Bundler, sources: _Pieces, begin: int, target: Path, at: int, end: int, digest: "hashlib._Hash"
) -> None:
    """Write the rest of a target, whose first byte is at `begin` of the sources."""
    temporary = _temporary(target)
    with _storage_errors(target):
        with io.FileIO(open_file(temporary, os.O_WRONLY | os.O_CREAT, follow_links=False), "wb") as file:
            file.truncate(at)
            file.seek(at)
            while at < end:
                data = _read(sources, begin + at, min(_SLICE_BYTES, end - at))
                count = file.write(data) or 0
                digest.update(data[:count])
                bundler.advance(target, count)
                at += count
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)


def _read(sources: _Pieces, position: int, count: int) -> bytes:
    """Bytes of the sources, as if they were one file; at least one."""
    for path, size_bytes in sources:
        if position < size_bytes:
            with _reading(path) as file:
                file.seek(position)
                if data := file.read(min(count, size_bytes - position)):
                    return data
            break
        position -= size_bytes
    raise StorageError("The source became shorter while it was copied. Run it again.")


def _temporary(target: Path) -> Path:
    return target.with_name(target.name + _TEMPORARY)


def _is_same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _write(path: Path, data: bytes) -> None:
    with _storage_errors(path):
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


def _damaged(path: Path, expected: str | None, actual: str, advice: str) -> IntegrityError:
    return IntegrityError(f"{path} is damaged: its SHA-256 is wrong. {advice}", expected or "", actual)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[io.FileIO]:
    """A regular file, opened without blocking on a pipe."""
    with _storage_errors(path), io.FileIO(open_regular(path), "rb") as file:
        yield file


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Maps errors of the system to ours, in one place."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise _TooLargeError(str(storage_error(error, path))) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise storage_error(error, path) from error
        raise StorageError(f"{error.filename or path} cannot be used: {error.strerror or error}.") from error
