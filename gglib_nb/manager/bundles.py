"""Bundles: models carried to a machine without a network, verified as they are written and again as they are read.

Both directions use the same copier: it hashes every byte, continues after an interruption, and gives a file its name
only when its SHA-256 matches.
"""

import errno
import glob
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    decode_manifest,
    encode_manifest,
)
from gglib_nb.domain.library import OnWorkProgress, WorkProgress
from gglib_nb.domain.model import LOCAL_OWNER, Model, ModelOrigin
from gglib_nb.domain.names import parse_path, target_path
from gglib_nb.domain.values import Value
from gglib_nb.engine.disk import DiskSpace, reading, status_of, storage_errors, write_all
from gglib_nb.engine.local import check_split_set
from gglib_nb.errors import DownloadInterruptedError, IntegrityError, RequestError, StorageError
from gglib_nb.manager.calls import has_given_up
from gglib_nb.manager.importing import stored_file
from gglib_nb.manager.library import delete_files, with_companions
from gglib_nb.system import (
    allocated_bytes,
    device_of,
    exists,
    is_file,
    lock_file,
    matching,
    only_writer,
    open_file,
    replace_file,
    sync_data,
    sync_folder,
)

_SLICE_BYTES: Final = 4 * 1024**2
CARD: Final = "README.md"
# If a file system refuses a file for its size, the size of its parts is a multiple of this.
_PART_UNIT_BYTES: Final = 1024**2

_Pieces = Sequence[tuple[Path, int]]
"""Files and their sizes, which are one file together."""


class BundleReport(Value, frozen=True):
    """The result of an export: the ids of the models, and how many of their bytes were linked, not copied."""

    folder: str
    models: tuple[str, ...]
    size_bytes: int
    linked_bytes: int


def export_models(
    models: Sequence[Model],
    folder: Path,
    *,
    read_card: Callable[[Model], bytes | None] = lambda _model: None,
    on_progress: OnWorkProgress | None = None,
) -> BundleReport:
    """Writes a bundle, or adds to one, as documented for the operation `export`.

    Each model is in the manifest only once all of its files are verified. `on_progress` is called after every few
    megabytes; if the caller has given up then, it raises `DownloadInterruptedError`, and continues the next time.
    """
    for model in models:
        _refuse_missing(map(Path, model.targets), _advice(model))
    copier = _Copier(folder, sum(model.size_bytes for model in models), on_progress)
    with storage_errors(folder):
        for model in models:
            repo_id, manifest = model.id.repo_id, read_manifest(folder)
            pairs = [(file, target_path(folder, repo_id, parse_path(file.path_in_repo).place)) for file in model.files]
            copied = [one for one in pairs if Path(one[0].target).stat().st_dev != device_of(folder)]
            sizes = {place: _left_bytes(place, file.size_bytes) for file, place in copied}
            DiskSpace().reserve(0, sizes, are_replaced=False)
            files = tuple(copier.export(model, file, place, manifest) for file, place in pairs)
            card = read_card(model) if model.has_repository else None
            licence, card_path = model.fact("licence", str), None if card is None else CARD
            entry = BundledModel(str(model.id), model.commit_sha, model.label, licence, card_path, files)
            with only_writer(folder):  # another export may write the same manifest
                place = target_path(folder, repo_id, CARD)
                if card is not None and not place.exists():  # a README may be the user's own
                    replace_file(place, card)
                replace_file(folder / MANIFEST_NAME, encode_manifest(read_manifest(folder).with_model(entry)))
    return BundleReport(str(folder), tuple(str(model.id) for model in models), copier.total_bytes, copier.linked_bytes)


def read_manifest(folder: Path) -> BundleManifest:
    """The manifest of a bundle, empty if there is none; a `RequestError` for what is not allowed in a bundle."""
    path = folder / MANIFEST_NAME
    if not path.exists():  # raises in a folder that may not be searched
        return BundleManifest()
    data = b"".join(_read([path], 0, LONGEST_BUNDLE_MANIFEST_BYTES + 1))
    if len(data) > LONGEST_BUNDLE_MANIFEST_BYTES:
        raise RequestError(f"{path} is too large for a manifest. Export the bundle again.")
    return decode_manifest(data)


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle."""
    manifest = folder / MANIFEST_NAME
    return is_file(manifest) and not manifest.is_symlink()


def import_models(
    folder: Path,
    models_directory: Path,
    register: Callable[[Model], None],
    *,
    registered: Iterable[Model] = (),
    on_progress: OnWorkProgress | None = None,
) -> tuple[Model, ...]:
    """Copies the models of a bundle into the models folder and registers each under the repository it came from.

    Every file is hashed while it is copied, and a damaged one is not registered. Existing files are verified and kept,
    including those of a registered model in another folder. Stopping is as for `export_models`.
    """
    manifest = read_manifest(folder)
    copier = _Copier(models_directory, sum(model.size_bytes for model in manifest.models), on_progress)
    present = {model.id: model for model in registered}
    imported: list[Model] = []
    for bundled in manifest.models:
        id_ = bundled.download_id
        model = present.get(id_)
        wanted = {file.path_in_repo: file.sha256 for file in bundled.files}
        is_same = model is not None and wanted == {file.path_in_repo: file.sha256 for file in model.files}
        if model is not None and model.origin == "local" and not is_same:
            raise RequestError(
                f"A model is already registered as {id_}. Remove it from the list first: %gguf forget {id_.typed}"
            )
        if model is not None and is_same and all(map(exists, model.targets)):
            places = {file.path_in_repo: Path(file.target) for file in model.files}
        else:
            model = None
            places = {path: target_path(models_directory, id_.repo_id, parse_path(path).place) for path in wanted}
        pairs = [(places[file.path_in_repo], file.size_bytes) for file in bundled.files]
        sizes = {place: _left_bytes(place, size_bytes) for place, size_bytes in pairs}
        DiskSpace().reserve(0, sizes, are_replaced=False)
        files = tuple(copier.take(folder / id_.repo_id, file, places[file.path_in_repo]) for file in bundled.files)
        check_split_set(files)
        if model is None:
            origin: ModelOrigin = "local" if id_.repo_id.startswith(f"{LOCAL_OWNER}/") else "import"
            model = Model(id_, bundled.commit_sha, bundled.label, files, time.time(), origin)
        imported.append(with_companions(replace(model, files=files), present.values()))
        register(imported[-1])
    return tuple(imported)


def _advice(model: Model) -> str:
    if model.hosts:
        return f"It is on {', '.join(host.host for host in model.hosts)}. Export it there."
    can_repair = model.has_repository and model.origin != "store"
    return f"Run %gguf repair {model.id.typed} first." if can_repair else "Restore it first."


def _refuse_missing(paths: Iterable[Path], advice: str) -> None:
    for path in paths:
        if not is_file(path):
            raise StorageError(f"{path} is missing. {advice}")


class _Copier:
    """Hashes, links and copies the files of one export or import; makes a folder only once it has a file for it."""

    def __init__(self, folder: Path, total_bytes: int, on_progress: OnWorkProgress | None) -> None:
        self.total_bytes: Final = total_bytes
        self._top: Final = next(one for one in (folder, *folder.parents) if exists(one))  # that stays if it fails
        self.linked_bytes = 0
        self._done_bytes = 0
        self._on_progress: Final = on_progress

    def export(self, model: Model, file: StoredFile, target: Path, manifest: BundleManifest) -> BundledFile:
        """Links or copies a file of a model into a bundle; a damaged one gets no place there.

        A file of another model in the manifest is not replaced, nor one that the manifest does not name.
        """
        source = Path(file.target)
        parts: tuple[int, ...] = ()
        owners = {
            one.id: bundled.sha256
            for one in manifest.models
            for bundled in one.files
            if (one.download_id.repo_id, bundled.path_in_repo) == (model.id.repo_id, file.path_in_repo)
        }
        with storage_errors(target):
            sha256 = self._right_sha256(source, file, _advice(model))
            is_unnamed = not owners and target.exists() and not source.samefile(target)
            in_place = {one for id_, one in owners.items() if id_ != str(model.id)}
            in_place |= {self._sha256_of(target)} if is_unnamed else set()  # perhaps of an interrupted export
            if in_place - {sha256}:
                raise StorageError(f"Another file is stored at {target}. Export {model.id} into another folder.")
            if _is_linked(source, target):
                self.linked_bytes += file.size_bytes
                self._advance(source, file.size_bytes)
            elif not is_unnamed:
                parts = self._copy([source], target, file.size_bytes, sha256, _advice(model))
        return BundledFile(file.path_in_repo, file.kind, file.size_bytes, sha256, parts, file.is_verified)

    def _right_sha256(self, source: Path, file: StoredFile, advice: str) -> str:
        """The digest of a file; hashes it unless it was verified and has not been written since."""
        found = source.stat()
        is_untouched = (found.st_size, found.st_mtime_ns) == (file.size_bytes, file.mtime_ns)
        if file.sha256 is not None and file.is_verified and file.wrong_ranges is None and is_untouched:
            return file.sha256
        actual = self._sha256_of(source)
        if file.sha256 not in (None, actual):
            raise _damaged(source, file.sha256, actual, advice)
        return actual

    def take(self, repository: Path, file: BundledFile, target: Path) -> StoredFile:
        """Copies a file of a repository in a bundle to its target; one with the same content stays."""
        with storage_errors(target):
            if was_present := target.exists():
                if self._sha256_of(target) != file.sha256:
                    raise StorageError(f"Another file is stored at {target}. Move or delete it, then import again.")
            else:
                sources, advice = [repository / path for path in file.stored_paths], "Export the bundle again."
                _refuse_missing(sources, advice)
                self._copy(sources, target, file.size_bytes, file.sha256, advice, may_split=False)
            stored = stored_file(target, file.path_in_repo, file.kind, file.sha256)
        return replace(stored, is_verified=file.is_verified, was_present=was_present, verified_at_s=time.time())

    def _advance(self, path: Path, count: int) -> None:
        """Counts bytes as done; if it was stopped, written data is kept and continued next time."""
        self._done_bytes += count
        if has_given_up():
            raise DownloadInterruptedError(f"Stopped at {path.name}; copied files are kept. Run it again to continue.")
        if self._on_progress is not None:
            done_bytes = min(self._done_bytes, self.total_bytes)
            self._on_progress(WorkProgress(str(path), done_bytes, self.total_bytes))

    def _sha256_of(self, path: Path) -> str:
        digest = hashlib.sha256()
        self._hash(path, digest)
        return digest.hexdigest()

    def _hash(self, path: Path, digest: "hashlib._Hash", most_bytes: int = sys.maxsize) -> int:
        """Feeds the digest with the first bytes of a file; returns how many there were."""
        count = 0
        for data in _read([path], 0, most_bytes):
            digest.update(data)
            count += len(data)
            self._advance(path, len(data))
        return count

    def _copy(
        self,
        sources: Sequence[Path],
        target: Path,
        size_bytes: int,
        sha256: str,
        advice: str,
        *,
        may_split: bool = True,
    ) -> tuple[int, ...]:
        """Copies a file, or joins its parts, hashing every byte; continues where an earlier copy stopped.

        With `may_split`, a copy that the filesystem cannot store in one piece is stored in parts; returns their sizes.
        """
        parts = _existing_parts(target, size_bytes) if may_split else []
        pieces = parts or [(target, size_bytes)]
        has_old = any(path.exists() for piece, _ in pieces for path in (piece, _temporary(piece)))
        try:
            actual = self._write(sources, pieces)
        except OSError as error:
            if error.errno != errno.EFBIG or not may_split or parts:
                raise
            pieces = parts = _split(target, size_bytes)
            actual = self._write(sources, pieces)
        if has_old and actual != sha256:  # the bytes of an earlier copy may be the wrong ones
            delete_files((str(path) for path, _ in pieces), self._top)
            actual = self._write(sources, pieces)
        if actual != sha256:
            delete_files((str(path) for path, _ in pieces), self._top)
            raise _damaged(sources[0], sha256, actual, advice)
        return tuple(size for _, size in parts)

    def _write(self, sources: Sequence[Path], pieces: _Pieces) -> str:
        """Writes what is missing of the pieces; returns the SHA-256 of all."""
        digest, begin = hashlib.sha256(), 0
        for target, size_bytes in pieces:
            if (found := status_of(target)) is not None and found.st_size == size_bytes:
                self._hash(target, digest, size_bytes)
            else:
                self._complete(sources, begin, target, size_bytes, digest)
            begin += size_bytes
        return digest.hexdigest()

    def _complete(
        self, sources: Sequence[Path], begin: int, target: Path, size_bytes: int, digest: "hashlib._Hash"
    ) -> None:
        """Writes a target, whose first byte is at `begin` of the sources, behind the bytes of an earlier copy."""
        temporary = _temporary(target)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        fd = open_file(temporary, os.O_WRONLY | os.O_CREAT, follow_links=False)
        try:
            if not lock_file(fd):
                raise StorageError(f"Another export or import is writing {target}. Run this again when it has ended.")
            at = self._hash(temporary, digest, size_bytes)
            os.ftruncate(fd, at)
            for data in _read(sources, begin + at, size_bytes - at):
                write_all(fd, data, at)
                digest.update(data)
                at += len(data)
                self._advance(target, len(data))
            if at < size_bytes:
                raise StorageError("The source became shorter while it was copied. Run it again.")
            sync_data(fd)
        finally:
            os.close(fd)
        temporary.replace(target)
        sync_folder(target.parent)


def _read(paths: Sequence[Path], start: int, length: int) -> Iterator[bytes]:
    """The bytes of regular files that are one file together, from `start` on, in slices; at most `length`."""
    for path in paths:
        with storage_errors(path), reading(path) as (read, size_bytes):
            while length > 0 and start < size_bytes and (data := read(start, min(_SLICE_BYTES, length))):
                yield data
                start += len(data)
                length -= len(data)
            start = max(0, start - size_bytes)


def _left_bytes(target: Path, size_bytes: int) -> int:
    """The size of a file without the bytes that an interrupted copy has written."""
    parts = [path for path, _ in _existing_parts(target, size_bytes)]
    return size_bytes - sum(map(allocated_bytes, (*parts, *map(_temporary, (target, *parts)))))


def _existing_parts(target: Path, size_bytes: int) -> _Pieces:
    """The parts in which an earlier copy stored a file; empty if there are none."""
    for first in matching(target.parent, f"{glob.escape(target.name)}.part1of*[0-9]"):
        found = status_of(first)
        if found is not None and found.st_size >= _PART_UNIT_BYTES:
            parts = _parts(target, size_bytes, found.st_size)
            if parts[0][0] == first:  # else it is left over from another version
                return parts
    return []


def _split(target: Path, size_bytes: int) -> _Pieces:
    """The parts for a filesystem that refused the file for its size; what it stored is the start of the first."""
    limit_bytes = _temporary(target).stat().st_size // _PART_UNIT_BYTES * _PART_UNIT_BYTES
    if limit_bytes == 0:
        raise StorageError(f"The disk of {target.parent} cannot store files of a megabyte.")
    parts = _parts(target, size_bytes, limit_bytes)
    _temporary(target).replace(_temporary(parts[0][0]))
    return parts


def _parts(target: Path, size_bytes: int, part_bytes: int) -> _Pieces:
    sizes = [min(part_bytes, size_bytes - begin) for begin in range(0, size_bytes, part_bytes)]
    return [
        (target.with_name(f"{target.name}.part{number}of{len(sizes)}"), size) for number, size in enumerate(sizes, 1)
    ]


def _temporary(target: Path) -> Path:
    return target.with_name(f"{target.name}.copying")


def _is_linked(source: Path, target: Path) -> bool:
    """Whether both are one file, which is linked now if there is none and the disk can do that."""
    if target.exists():
        return source.samefile(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source.resolve(), target)
    except OSError:
        return False
    return True


def _damaged(path: Path, expected: str | None, actual: str, advice: str) -> IntegrityError:
    return IntegrityError(f"{path} is damaged: its SHA-256 is wrong. {advice}", expected or "", actual)
