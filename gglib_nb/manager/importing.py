"""Searches folders for GGUF files and makes models of them: nothing is moved, copied or hashed, and no request is sent.

`Stores` are folders of other programs whose models are listed and reused, and never changed: LM Studio's folder, a
lab's shared folder, a Hugging Face cache, Ollama's store.
"""

import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Final

from gglib_nb.domain.companions import COMPANION_KINDS, Companion, HeaderKind, headers_agree, kind_of_header
from gglib_nb.domain.download import MOST_NAMED, Facts, StoredFile
from gglib_nb.domain.gguf import read_header
from gglib_nb.domain.gguf_header import GgufHeader, header_facts
from gglib_nb.domain.importing import (
    LONGEST_MANIFEST_BYTES,
    FileOrigin,
    local_name,
    ollama_files,
    ollama_id,
    origin_of,
)
from gglib_nb.domain.library import OnWorkProgress, SkippedFile, WorkProgress
from gglib_nb.domain.model import LOCAL_OWNER, Model, ModelOrigin
from gglib_nb.domain.names import DownloadId, parse_path
from gglib_nb.domain.units import listed
from gglib_nb.domain.values import Value
from gglib_nb.domain.variants import Variant, Variants, companion_for, variants_of
from gglib_nb.engine.disk import read_small, reading, status_of
from gglib_nb.engine.local import check_split_set, read_facts
from gglib_nb.errors import DownloadInterruptedError, GglibError, GgufError, StorageError
from gglib_nb.manager.calls import DaemonThreadPool, has_given_up
from gglib_nb.system import exists, is_folder, matching

_MOST_FILES: Final = 5_000
_MOST_FOLDERS: Final = 50_000
_MOST_MANIFESTS: Final = 2_000
_COMMIT_DIGITS: Final = 40  # the folder of a kept version states fewer
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# A search of the stores counts as new for this time, and is waited for at most this long.
_FRESH_S: Final = 30.0
_WAIT_S: Final = 5.0
# Parts of the Hugging Face cache that contain the same files under other names, or no files; deleted files.
_PASSED_OVER: Final = frozenset({"blobs", ".locks", ".no_exist", "refs", "trees", ".git", "Trash", "$RECYCLE.BIN"})


class _Group(Value, frozen=True):
    """Files that belong together: of one repository at one commit, or of one folder."""

    repo_id: str | None
    commit_sha: str | None
    root: Path
    files: dict[str, Path]  # by path in the repository
    sizes: dict[str, int]

    @property
    def is_main(self) -> bool:
        """Whether it is neither a kept version nor a cached snapshot beside the default branch's; True if unknown."""
        if self.commit_sha is None:
            return True
        above = self.root.parents[1:2]
        main = read_small(above[0] / "refs" / "main") if above else None
        return len(self.commit_sha) == _COMMIT_DIGITS if main is None else main.strip() == self.commit_sha.encode()


class Importer:
    """One search of a folder: the models to register at `at_s`, and the files that are not registered.

    `known` are the registered models; `tell` is called for each file whose header is read.
    """

    def __init__(self, known: list[Model], at_s: float, tell: OnWorkProgress | None) -> None:
        self.models: list[Model] = []
        self.skipped: list[SkippedFile] = []
        self._at_s = at_s
        self._tell = tell
        self._targets = {file.target: model for model in known for file in model.files}
        self._by_sha256 = {file.sha256: model for model in known for file in model.files if file.sha256}
        self._by_id = {str(model.id).casefold(): model for model in known}
        self._seen: dict[tuple[int, int], Path] = {}
        self._used: set[Path] = set()  # companions of these models
        self._total_files = 0
        self._done_files = 0

    def look_through(self, folder: Path) -> None:
        """Finds the models of a folder. Raises `StorageError`."""
        if not is_folder(folder):
            raise StorageError(f"There is no folder {folder}. Name one that contains GGUF files.")
        if (store := _ollama_store(folder)) is not None:
            self._skip(store, "is Ollama's store, which is listed if the setting model_stores names it")
        groups: dict[tuple[object, ...], _Group] = {}
        for path, size_bytes, origin in self._files(folder):
            self._total_files += 1
            inside = PurePath(origin.path_in_repo).parts
            is_whole = origin.repo_id is not None and path.parts[-len(inside) :] == inside
            key = origin.repo_id, origin.commit_sha, path.parents[len(inside) - 1] if is_whole else path.parent
            group = groups.setdefault(key, _Group(*key, {}, {}))
            group.files[origin.path_in_repo], group.sizes[origin.path_in_repo] = path, size_bytes
        # The commit of the default branch goes first, so that it gets the plain id.
        for group in sorted(groups.values(), key=lambda group: not group.is_main):
            self._take_group(group)

    def _files(self, folder: Path) -> Iterator[tuple[Path, int, FileOrigin]]:
        def skip_unreadable(error: OSError) -> None:
            self._skip(Path(error.filename), f"cannot be read ({error.strerror})")

        count = 0
        for folders, (place, below, names) in enumerate(os.walk(folder, onerror=skip_unreadable), 1):
            below[:] = sorted(name for name in below if name not in _PASSED_OVER and not name.startswith(".Trash"))
            for path in (Path(place, name) for name in sorted(names) if name.lower().endswith(".gguf")):
                count += 1
                if (found := status_of(path)) is None:
                    self._skip(path, "is a broken link")
                elif not stat.S_ISREG(found.st_mode):
                    self._skip(path, "is not a file")
                elif (model := self._targets.get(str(path))) is not None:
                    self._skip(path, f"is already registered as {model.id}")
                else:
                    yield path, found.st_size, origin_of(path.relative_to(folder), folder, names)
            if folders >= _MOST_FOLDERS or count >= _MOST_FILES:
                reason = "is where the search stopped, because there are too many files; import the folders below it"
                self._skip(Path(place), reason)
                return

    def _take_group(self, group: _Group) -> None:
        headers: dict[str, GgufHeader] = {}  # without those of unreadable files
        for path_in_repo, path in group.files.items():
            self._done_files += 1
            if has_given_up():
                raise DownloadInterruptedError("The import was stopped; nothing was registered. Run it again.")
            if self._tell is not None:
                self._tell(WorkProgress(str(path), done_files=self._done_files, total_files=self._total_files))
            with suppress(OSError, GgufError):
                headers[path_in_repo] = _read_header(path)
        variants = variants_of(group.sizes.items(), _kinds_by_header(headers))
        for variant in variants.variants:
            self._take(group, variants, variant, headers)
        for companion in variants.companions:
            if group.files[companion.path] not in self._used:
                self._skip(group.files[companion.path], f"is a companion file ({companion.kind}), not a model")

    def _take(self, group: _Group, variants: Variants, variant: Variant, headers: Mapping[str, GgufHeader]) -> None:
        paths = [group.files[path] for path in variant.files]

        def agree(companion: Companion) -> bool | None:
            both = headers.get(companion.path), headers.get(variant.files[0])
            return None if both[0] is None or both[1] is None else headers_agree(both[0], both[1])

        try:
            self._refuse(variant, paths[0])
            files = [_stored(group.files[path], path, "shard", headers) for path in variant.files]
            check_split_set(files)
            for companion in (companion_for(variants, variant, kind, agree) for kind in COMPANION_KINDS):
                if companion is not None:
                    whole = variants.whole_companions[companion.path].files
                    files += [_stored(group.files[path], path, companion.kind, headers) for path in whole]
                    self._used.update(group.files[path] for path in whole)
            id_, commit_sha, origin = self._identity(group, variant, files[0].sha256)
            model = Model(id_, commit_sha, variant.quantization, tuple(files), self._at_s, origin)
            other = self._by_id.get(str(id_).casefold())
            if other is not None and (other.hosts or exists(Path(other.paths[0]))):
                raise GgufError(f"would be {id_}, which is already registered at {other.paths[0]}")
            self.models.append((other and _moved(other, files)) or model)
            self._by_id[str(id_).casefold()] = model
        except (GglibError, OSError) as error:
            text = f"cannot be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)
            for path in paths:
                self._skip(path, text if text[:1].islower() else f"cannot be loaded: {text}")

    def _refuse(self, variant: Variant, path: Path) -> None:
        if variant.split == "bytes":
            raise GgufError("is a part of a file; join the parts first")
        if not variant.is_complete:
            missing = f"{listed(variant.missing, MOST_NAMED)} of {variant.shards_expected}"
            raise GgufError(f"belongs to a split model that lacks its shards {missing}")
        found = path.stat()
        if (first := self._seen.setdefault((found.st_dev, found.st_ino), path)) != path:
            raise GgufError(f"is the same file as {first}")

    def _identity(
        self, group: _Group, variant: Variant, sha256: str | None
    ) -> tuple[DownloadId, str | None, ModelOrigin]:
        if group.repo_id is not None:
            revision = None if group.is_main else group.commit_sha
            return DownloadId(group.repo_id, variant.key, revision), group.commit_sha, "import"
        twin = self._by_sha256.get(sha256 or "")
        if twin is not None and twin.has_repository:
            return DownloadId(twin.id.repo_id, variant.key, twin.id.revision), twin.commit_sha, "import"
        taken = (model.id.repo_id.removeprefix(f"{LOCAL_OWNER}/") for model in self._by_id.values())
        return DownloadId(f"{LOCAL_OWNER}/{local_name(variant.stem, taken)}"), None, "local"

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.append(SkippedFile(str(path), reason))


def _moved(model: Model, files: Sequence[StoredFile]) -> Model | None:
    """A registered model whose files were moved here, without companions that were not; None: these are other files."""

    def key(file: StoredFile) -> tuple[str, int, int]:
        return file.path_in_repo, file.size_bytes, file.mtime_ns

    places = {key(file): file.target for file in files}
    found = tuple(replace(old, target=places[key(old)]) for old in model.files if key(old) in places)
    moved = replace(model, files=found)
    return moved if len(moved.shards) == len(model.shards) else None


def _read_header(path: Path) -> GgufHeader:
    with reading(path) as (read, size_bytes):
        return read_header(read, size_bytes)


def _stored(path: Path, path_in_repo: str, kind: str, headers: Mapping[str, GgufHeader]) -> StoredFile:
    facts = header_facts(headers.get(path_in_repo) or _read_header(path))  # again, for the reason
    return stored_file(path, path_in_repo, kind, stated_sha256(path), facts)


def stored_file(path: Path, path_in_repo: str, kind: str, sha256: str | None, facts: Facts | None = None) -> StoredFile:
    """The record of a local file that was not hashed. Raises `OSError`."""
    found = path.stat()
    return StoredFile(
        target=str(path),
        path_in_repo=path_in_repo,
        kind=kind,
        size_bytes=found.st_size,
        sha256=sha256,
        is_verified=False,
        mtime_ns=found.st_mtime_ns,
        was_present=True,
        facts=read_facts(path) if facts is None else facts,
    )


def _kinds_by_header(headers: Mapping[str, GgufHeader]) -> dict[str, HeaderKind]:
    """The kinds of the files by their headers; a later shard whose header states none has the kind of the first."""
    kinds = {path: kind for path, header in headers.items() if (kind := kind_of_header(header)) is not None}
    sets = {name.path: (name.folder, name.stem) for name in map(parse_path, headers) if name.split}
    of_set = {sets[path]: kind for path, kind in kinds.items() if path in sets}
    return {path: of_set[one] for path, one in sets.items() if one in of_set} | kinds


def stated_sha256(path: Path) -> str | None:
    """The file's SHA-256 by the Hugging Face cache, or by a folder that `hf download` filled; None if unknown."""
    if path.is_symlink() and _SHA256.fullmatch(name := os.path.basename(os.readlink(path))):  # noqa: PTH115, PTH119 - one step only
        return name
    for folder in path.parents[:4]:
        metadata = folder / ".cache" / "huggingface" / "download" / f"{path.relative_to(folder).as_posix()}.metadata"
        if (found := read_small(metadata)) is not None:
            stated = found.decode(errors="replace").splitlines()[1:2]
            return stated[0] if stated and _SHA256.fullmatch(stated[0]) else None
    return None


# --- read-only stores ---


class Stores:
    """The models in some folders. Every method may be called from any thread.

    A thread searches them, because a folder on a network that hangs must not delay other work; until it responds, the
    previous result is used. Models that `registered` returns are not listed a second time.
    """

    def __init__(self, folders: Sequence[Path], registered: Callable[[], list[Model]]) -> None:
        self.missing: tuple[Path, ...] = ()  # at the last search, perhaps because their disk is not mounted
        self._folders: Final = tuple(folders)
        self._registered: Final = registered
        self._lock: Final = threading.Lock()
        self._search: Future[None] | None = None
        self._models: tuple[Model, ...] = ()
        self._fresh_until_s = self._wait_until_s = float("-inf")

    def models(self) -> tuple[Model, ...]:
        """The models in the stores, at most 30 s old; after a search has taken five seconds, the previous result."""
        if not self._folders:
            return ()
        with self._lock:
            if self._search is None or (self._search.done() and time.monotonic() > self._fresh_until_s):
                self._wait_until_s = time.monotonic() + _WAIT_S
                threads = DaemonThreadPool("gglib-stores")
                self._search = threads.submit(self._look)
                threads.close()  # the thread ends with the search
        futures.wait([self._search], timeout=max(0.0, self._wait_until_s - time.monotonic()))
        return self._models

    def folder_of(self, path: str) -> str:
        """The store that a file is in; empty if it is in none."""
        return next((str(folder) for folder in self._folders if Path(path).is_relative_to(folder)), "")

    def _look(self) -> None:
        known: list[Model] = []
        with suppress(GglibError):
            known += self._registered()
        found: list[Model] = []
        present = [folder for folder in self._folders if is_folder(folder)]
        for folder in present:
            with suppress(OSError):
                found += _models_of(folder, [*known, *found])
        self._models, self.missing = tuple(found), tuple(one for one in self._folders if one not in present)
        self._fresh_until_s = time.monotonic() + _FRESH_S


def _models_of(folder: Path, known: list[Model]) -> list[Model]:
    if (store := _ollama_store(folder)) is not None:
        found = _ollama_models(store)
    else:
        importer = Importer(known, 0.0, None)
        with suppress(GglibError, OSError):  # the models found before an error count
            importer.look_through(folder)
        found = [replace(model, origin="store") for model in importer.models]
    return [model for model in found if all(model.id != other.id for other in known)]


def _ollama_store(folder: Path) -> Path | None:
    """The folder that Ollama keeps its models in: this, or the one in its own."""
    found = (one for one in (folder, folder / "models") if is_folder(one / "manifests") and is_folder(one / "blobs"))
    return next(found, None)


def _ollama_models(folder: Path) -> list[Model]:
    manifests, blobs = folder / "manifests", folder / "blobs"
    found: list[Model] = []
    for path in sorted(matching(manifests, "*/*/*/*"))[:_MOST_MANIFESTS]:
        if (id_ := ollama_id(PurePosixPath(path.relative_to(manifests).as_posix()))) is None:
            continue
        with suppress(OSError):
            with reading(path) as (read, _):
                named = ollama_files(read(0, LONGEST_MANIFEST_BYTES))
            files = tuple(
                replace(
                    stored_file(blobs / f"sha256-{sha256}", f"sha256-{sha256}", kind, sha256), size_bytes=size_bytes
                )
                for kind, sha256, size_bytes in named
            )
            if files:
                found.append(Model(id_, None, files[0].fact("file_type_label", str), files, 0.0, origin="store"))
    return found
