"""Registered models, and as rows of a table; a list of rows goes into `pandas.DataFrame` as it is."""

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import PurePath
from typing import Final, Literal, NamedTuple

from gglib_nb.domain.companions import kind_by_name
from gglib_nb.domain.download import Fact, HostFolder, StoredFile
from gglib_nb.domain.gguf_header import ENCODERS
from gglib_nb.domain.names import DownloadId, parse_path
from gglib_nb.domain.text import printable
from gglib_nb.domain.values import Value, known_sum

ModelOrigin = Literal["hub", "import", "local", "store"]
LOCAL_OWNER = "local"
"""The owner in the ids of models whose repository is unknown."""


class Model(Value, frozen=True):
    """One registered model. Times are Unix times.

    Attributes:
        id: The id of its download; of an imported one of unknown repository `local/<name>`.
        commit_sha: The commit of its files; None: unknown.
        label: Label of the quantization; None: the file names state none.
        files: Shards in order, then companions.
        origin: `hub`: downloaded here; `import`: found in a folder, its repository known; `local`: its repository
            unknown; `store`: in a read-only store of another program.
        checked_at_s: The last check for a newer version; None, as the next two: never checked.
        latest_commit_sha: The commit of its revision then.
        has_update: Whether one of its files had changed then.
        hosts: The hosts of a cluster that have it; empty: this machine. The paths of its files are this machine's if it
            sees that folder, else those of the first host.
        replaces: Paths of the version before, which an update deletes at its end; empty: it has ended.
    """

    id: DownloadId
    commit_sha: str | None
    label: str | None
    files: tuple[StoredFile, ...]
    registered_at_s: float
    origin: ModelOrigin = "hub"
    checked_at_s: float | None = None
    latest_commit_sha: str | None = None
    has_update: bool | None = None
    hosts: tuple[HostFolder, ...] = ()
    replaces: tuple[str, ...] = ()

    @property
    def has_repository(self) -> bool:
        """Whether the repository of its files is known: the Hub's `local/<name>` is another user's."""
        return self.origin == "hub" or not self.id.repo_id.startswith(f"{LOCAL_OWNER}/")

    @property
    def shards(self) -> tuple[StoredFile, ...]:
        """Files of the model itself, in order."""
        return tuple(file for file in self.files if file.kind == "shard")

    @property
    def paths(self) -> tuple[str, ...]:
        """Their paths; programs open the first."""
        return tuple(file.target for file in self.shards)

    @property
    def targets(self) -> frozenset[str]:
        """The paths of all its files."""
        return frozenset(file.target for file in self.files)

    def companion(self, kind: str) -> StoredFile | None:
        """Its first file of a kind; None: it has none."""
        return next((file for file in self.files if file.kind == kind), None)

    @property
    def projector_path(self) -> str | None:
        """The path of its mmproj; None: it has none."""
        return None if (projector := self.companion("mmproj")) is None else projector.target

    @property
    def draft_path(self) -> str | None:
        """The path of its draft for speculative decoding; None: it has none."""
        return None if (draft := self.companion("draft")) is None else draft.target

    @property
    def size_bytes(self) -> int:
        """All its files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def facts(self) -> dict[str, str | int | float | bool | None]:
        """What the GGUF header of the first shard says; empty: unreadable."""
        return {} if (first := self.companion("shard")) is None else first.facts

    def fact(self, name: str, kind: type[Fact]) -> Fact | None:
        """One of these facts; None: unknown, or of another type."""
        return None if (first := self.companion("shard")) is None else first.fact(name, kind)

    @property
    def parameter_count(self) -> int | None:
        """Parameters of the whole model, of a split one those of all shards; None: unknown."""
        counted = known_sum(file.fact("tensor_parameters", int) for file in self.shards)
        return self.fact("parameter_count", int) if counted is None or len(self.shards) < 2 else counted

    @property
    def is_verified(self) -> bool:
        """Whether every file had the SHA-256 that the Hub states, and none was found wrong since."""
        return all(file.is_verified and file.wrong_ranges is None for file in self.files)

    @property
    def verified_at_s(self) -> float | None:
        """Unix time of the oldest verification of its files; None: one was never verified."""
        times = [file.verified_at_s for file in self.files]
        return None if None in times else min((at_s for at_s in times if at_s is not None), default=None)


def remark_on(model: Model, others: Iterable[Model]) -> str:
    """An oddity of a model's content, as one line; empty: none. `others` are the other registered models."""
    facts = model.facts
    if not facts:
        return "it is not a GGUF file that can be read"
    kind, names = model.fact("companion_kind", str), model.fact("template_introspection", str)
    if kind and kind != kind_by_name(parse_path(model.files[0].path_in_repo)):
        return printable(f"its header says that it is a companion file ({kind}), not a model")
    if names:
        return printable(
            f"its chat template uses Python introspection ({names}): load it only where templates are sandboxed"
        )
    template = facts.get("chat_template_sha256")
    if template is None:
        is_chat = facts.get("has_chat_template") is False and facts.get("architecture") not in ENCODERS
        return "it has no chat template" if is_chat else ""
    for other in others:
        is_twin = (other.id.repo_id, other.commit_sha) == (model.id.repo_id, model.commit_sha) and other.id != model.id
        if is_twin and other.facts.get("chat_template_sha256") not in (None, template):
            return printable(f"its chat template differs from that of {other.label or other.id}")
    return ""


ModelState = Literal["verified", "unverified", "changed", "wrong", "missing"]
"""What is known of a model's files.

verified: every one hashed to what the Hub states, and is unchanged since. unverified: no digest is stated, or it
was never hashed. changed: size or time is another than recorded. wrong: hashed, and not right. missing: one is gone.
Of a model on a cluster's hosts whose files cannot be seen from here it is what was recorded.
"""
ModelOrder = Literal["newest", "name", "size", "parameters", "verified", "checked", "used"]

# The header is read once more right after registration; that is not a use.
_SETTLING_S: Final = 60.0


class FileLook(NamedTuple):
    """A file's size and times; the access time is 0 if it was not looked at."""

    size_bytes: int
    mtime_ns: int
    atime_ns: int = 0  # 0: not looked at


Looks = Mapping[str, FileLook | None]
"""By path; None for a file that is not there."""


class ModelSummary(Value, frozen=True):
    """One registered model as a row of a table; what is not listed here is as in `Model`.

    Attributes:
        id: What every verb and operation takes.
        quantization: Label, as the file names state it, else the header.
        revision: As requested; None: the default branch.
        context_length: Tokens it was trained for.
        file_count: Shards and companions.
        state: `verified`, `unverified`, `changed`, `wrong` or `missing`.
        verified_at_s: The oldest verification of its files; None: one was never verified.
        path: Its first file, which programs open.
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
        quantization=model.label or model.fact("file_type_label", str),
        revision=model.id.revision,
        commit_sha=model.commit_sha,
        architecture=model.fact("architecture", str),
        parameter_count=model.parameter_count,
        context_length=model.fact("context_length", int),
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
    opened_s = 0.0 if look is None or look.atime_ns <= look.mtime_ns else look.atime_ns / 1e9
    times_s = (recorded_use_s, opened_s if opened_s > model.registered_at_s + _SETTLING_S else None)
    return max((one for one in times_s if one is not None), default=None)


def state_of(model: Model, looks: Looks) -> ModelState:
    """The worst state of a model's files."""
    states: set[ModelState] = set()
    if not model.hosts or any(looks.get(file.target) for file in model.files):
        states = {_state_of_file(file, looks.get(file.target)) for file in model.files}
    worst: tuple[ModelState, ...] = ("missing", "changed", "wrong")
    return next((state for state in worst if state in states), "verified" if model.is_verified else "unverified")


def _state_of_file(file: StoredFile, look: FileLook | None) -> ModelState:
    if look is None:
        return "missing"
    if look.mtime_ns == file.mtime_ns and file.wrong_ranges is not None:
        return "wrong"
    return "verified" if (look.size_bytes, look.mtime_ns) == (file.size_bytes, file.mtime_ns) else "changed"


def selected(models: Iterable[ModelSummary], text: str = "", only: str = "") -> list[ModelSummary]:
    """The models with every word of `text` in id, architecture or path, and in a state (`update`: a known update)."""
    words = text.casefold().split()
    found = (model for model in models if only in ("", model.state) or (only == "update" and model.has_update is True))
    texts = ((model, f"{model.id} {model.architecture or ''} {model.path}".casefold()) for model in found)
    return [model for model, where in texts if all(word in where for word in words)]


def ordered(models: Sequence[ModelSummary], order: ModelOrder) -> list[ModelSummary]:
    """In an order: names from A to Z; sizes, numbers and times from the largest; unknown ones last."""
    if order == "name":
        return sorted(models, key=lambda model: model.id.casefold())
    value = attrgetter(_VALUES[order])
    return sorted(models, key=lambda model: -found if (found := value(model)) is not None else float("inf"))


_VALUES: Final[Mapping[ModelOrder, str]] = {
    "newest": "registered_at_s", "size": "size_bytes", "parameters": "parameter_count", "verified": "verified_at_s",
    "checked": "checked_at_s", "used": "last_used_at_s",
}  # fmt: skip
