"""A registered model as one row of a table, and whether its files are as recorded.

A list of rows goes into `pandas.DataFrame` as it is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Final, Literal, NamedTuple

from gglib_nb.domain.download import StoredFile
from gglib_nb.domain.model import Model, ModelOrigin
from gglib_nb.domain.values import Value

ModelState = Literal["verified", "unverified", "changed", "wrong", "missing"]
"""What is known of a model's files.

verified: every one hashed to what the Hub states, and is unchanged since. unverified: no digest is stated, or it
was never hashed. changed: size or time is another than recorded. wrong: hashed, and not right. missing: one is gone.
Of a model on a cluster's hosts whose files cannot be seen from here it is what was recorded.
"""
ModelOrder = Literal["newest", "name", "size", "parameters", "verified", "checked", "used"]

# Its header is read once more right after it was registered; that is not a use.
_SETTLING_S: Final = 60.0


class FileLook(NamedTuple):
    """A file's size and times; the access time is 0 if it was not looked at."""

    size_bytes: int
    mtime_ns: int
    atime_ns: int = 0  # 0: not looked at


Looks = Mapping[str, FileLook | None]
"""By path; None for a file that is not there."""


class ModelSummary(Value, frozen=True):
    """One registered model. Times are Unix times; None is unknown, unless stated otherwise.

    Attributes:
        id: What every verb and operation takes.
        repo_id: `owner/name`; of an imported one of unknown repository `local/<name>`.
        quantization: Label, as the file names state it, else the header.
        revision: As requested; None: the default branch.
        commit_sha: The commit of its files.
        parameter_count: Of the whole model.
        context_length: Tokens it was trained for.
        size_bytes: Of all its files.
        file_count: Shards and companions.
        state: `verified`, `unverified`, `changed`, `wrong` or `missing`.
        verified_at_s: The oldest verification of its files; None: one was never verified.
        checked_at_s: The last check for a newer version; None: never checked.
        has_update: Whether that check found one; None: never checked.
        origin: `hub`, `import`, `local` or `store`, as in `Model`.
        folder: The folder of its first file.
        path: Its first file, which programs open.
        projector_path: Its mmproj; None: it has none.
        hosts: The hosts of a cluster that have it, separated by commas; empty: this machine.
        store: The folder of another program that it is in; empty: none.
        last_used_at_s: When its path was last requested, or its file opened if the disk records that.
    """

    id: str
    repo_id: str
    quantization: str | None
    revision: str | None
    commit_sha: str | None
    architecture: str | None
    parameter_count: int | None
    context_length: int | None
    size_bytes: int
    file_count: int
    state: ModelState
    verified_at_s: float | None
    checked_at_s: float | None
    has_update: bool | None
    registered_at_s: float
    origin: ModelOrigin
    folder: str
    path: str
    projector_path: str | None
    hosts: str = ""
    store: str = ""
    last_used_at_s: float | None = None


def summary_of(model: Model, looks: Looks, recorded_use_s: float | None = None) -> ModelSummary:
    """The row of a model; `recorded_use_s` is the Unix time at which its path was last requested, None: never."""
    path = next(iter(model.paths), "")
    return ModelSummary(
        id=str(model.id),
        repo_id=model.id.repo_id,
        quantization=model.label or _text(model, "file_type_label"),
        revision=model.id.revision,
        commit_sha=model.commit_sha,
        architecture=_text(model, "architecture"),
        parameter_count=model.parameter_count,
        context_length=_number(model, "context_length"),
        size_bytes=model.size_bytes,
        file_count=len(model.files),
        state=state_of(model, looks),
        verified_at_s=model.verified_at_s,
        checked_at_s=model.checked_at_s,
        has_update=model.has_update,
        registered_at_s=model.registered_at_s,
        origin=model.origin,
        folder=str(PurePath(path).parent),
        path=path,
        projector_path=model.projector_path,
        hosts=", ".join(host.host for host in model.hosts),
        last_used_at_s=last_use_s(model, looks.get(path), recorded_use_s),
    )


def last_use_s(model: Model, look: FileLook | None, recorded_use_s: float | None) -> float | None:
    """Unix time of a model's last use; None: unknown.

    A program that opens a file changes its access time, if the mount keeps access times: then it is later than the
    file's last change and registration. Elsewhere (`noatime`) it stays at the time of the change and says nothing.
    """
    opened_s = None
    if look is not None and look.atime_ns > look.mtime_ns and look.atime_ns / 1e9 > model.registered_at_s + _SETTLING_S:
        opened_s = look.atime_ns / 1e9
    return max((one for one in (recorded_use_s, opened_s) if one is not None), default=None)


def state_of(model: Model, looks: Looks) -> ModelState:
    """The worst state of a model's files."""
    if model.hosts and all(looks.get(file.target) is None for file in model.files):
        return "verified" if model.is_verified else "unverified"
    states = {_state_of_file(file, looks.get(file.target)) for file in model.files}
    worst: tuple[ModelState, ...] = ("missing", "changed", "wrong")
    return next((state for state in worst if state in states), "verified" if model.is_verified else "unverified")


def _state_of_file(file: StoredFile, look: FileLook | None) -> ModelState:
    if look is None:
        return "missing"
    if look.mtime_ns == file.mtime_ns and file.wrong_ranges is not None:
        return "wrong"
    if (look.size_bytes, look.mtime_ns) != (file.size_bytes, file.mtime_ns):
        return "changed"
    return "verified" if file.is_verified else "unverified"


def selected(models: Iterable[ModelSummary], text: str = "", only: str = "") -> list[ModelSummary]:
    """The models with every word of `text` in id, architecture or path, and in a state (`update`: a known update)."""
    words = text.casefold().split()
    return [model for model in models if all(word in _haystack(model) for word in words) and _is_in(model, only)]


def ordered(models: Sequence[ModelSummary], order: ModelOrder) -> list[ModelSummary]:
    """In an order: names from A to Z; sizes, numbers and times from the largest; unknown ones last."""
    return sorted(models, key=_KEYS[order])


def _haystack(model: ModelSummary) -> str:
    return f"{model.id} {model.architecture or ''} {model.path}".casefold()


def _is_in(model: ModelSummary, only: str) -> bool:
    return not only or model.state == only or (only == "update" and model.has_update is True)


def _descending(value: float | None) -> float:
    return -value if value is not None else float("inf")


_KEYS: Final[Mapping[ModelOrder, Callable[[ModelSummary], float | str]]] = {
    "newest": lambda model: -model.registered_at_s,
    "name": lambda model: model.id.casefold(),
    "size": lambda model: -model.size_bytes,
    "parameters": lambda model: _descending(model.parameter_count),
    "verified": lambda model: _descending(model.verified_at_s),
    "checked": lambda model: _descending(model.checked_at_s),
    "used": lambda model: _descending(model.last_used_at_s),
}


def _text(model: Model, name: str) -> str | None:
    value = model.facts.get(name)
    return value if isinstance(value, str) else None


def _number(model: Model, name: str) -> int | None:
    value = model.facts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
