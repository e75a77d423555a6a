"""Read-only stores: folders of other programs whose models are listed and reused, and never changed.

LM Studio's folder, a lab's shared folder, a Hugging Face cache, Ollama's store. They are searched on a thread of their
own, because a folder on a network that hangs must not delay other work; until it responds, the previous result is used.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from gglib_nb.domain.importing import LONGEST_MANIFEST_BYTES, ollama_files, ollama_id
from gglib_nb.domain.model import Model
from gglib_nb.errors import GglibError
from gglib_nb.manager.importing import Importer, stored_file

_FRESH_S: Final = 30.0
_WAIT_S: Final = 5.0
_MOST_MANIFESTS: Final = 2_000


class Stores:
    """The models in some folders. Every method may be called from any thread.

    Args:
        folders: The stores.
        registered: Returns the registered models, which are not listed a second time.

    Attributes:
        missing: Folders that did not exist at the last search, perhaps because their disk is not mounted.
    """

    def __init__(self, folders: Sequence[Path], registered: Callable[[], list[Model]]) -> None:
        self.missing: tuple[Path, ...] = ()
        self._folders: Final = tuple(folders)
        self._registered: Final = registered
        self._lock: Final = threading.Lock()
        self._looking: threading.Thread | None = None
        self._models: tuple[Model, ...] = ()
        self._looked_at_s = float("-inf")

    def models(self) -> tuple[Model, ...]:
        """The models found in the stores, at most half a minute old; after five seconds of search, the previous result."""
        if not self._folders:
            return ()
        with self._lock:
            if self._looking is None and time.monotonic() - self._looked_at_s > _FRESH_S:
                self._looking = threading.Thread(target=self._look, name="gglib-stores", daemon=True)
                self._looking.start()
            looking = self._looking
        if looking is not None:
            looking.join(_WAIT_S)
        return self._models

    def folder_of(self, path: str) -> str:
        """The store that a file is in; empty if it is in none."""
        return next((str(folder) for folder in self._folders if Path(path).is_relative_to(folder)), "")

    def _look(self) -> None:
        try:
            registered = self._registered()
        except GglibError:
            registered = []
        found: list[Model] = []
        missing: list[Path] = []
        for folder in self._folders:
            if not folder.is_dir():
                missing.append(folder)
                continue
            found += _models_of(folder, [*registered, *found])
        with self._lock:
            self._models, self.missing = tuple(found), tuple(missing)
            self._looked_at_s, self._looking = time.monotonic(), None


def _models_of(folder: Path, known: list[Model]) -> list[Model]:
    if (folder / "manifests").is_dir() and (folder / "blobs").is_dir():
        return [model for model in _ollama_models(folder) if all(model.id != other.id for other in known)]
    importer = Importer(known, 0.0, None)
    with suppress(GglibError, OSError):  # the models found before an error count
        importer.look_through(folder)
    return [replace(model, origin="store") for model in importer.models]


def _ollama_models(folder: Path) -> list[Model]:
    manifests = folder / "manifests"
    found: list[Model] = []
    for path in sorted(manifests.glob("*/*/*/*"))[:_MOST_MANIFESTS]:
        id_ = ollama_id(PurePosixPath(path.relative_to(manifests).as_posix()))
        if id_ is None:
            continue
        try:
            with path.open("rb") as file:
                named = ollama_files(file.read(LONGEST_MANIFEST_BYTES))
            files = [
                replace(
                    stored_file(folder / one.blob, Path(one.blob).name, one.kind, one.sha256), size_bytes=one.size_bytes
                )
                for one in named
            ]
        except OSError:
            continue
        if files:
            label = files[0].facts.get("file_type_label")
            found.append(Model(id_, None, label if isinstance(label, str) else None, tuple(files), 0.0, origin="store"))
    return found
