"""A model on the disk, as the catalog keeps it."""

from collections.abc import Sequence
from typing import Literal

from gglib_nb.domain.download import HostFolder, StoredFile
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.values import Value
from gglib_nb.errors import AmbiguousQuantizationError, ModelNotFoundError

ModelOrigin = Literal["hub", "import", "local", "store"]
"""Where a model came from: downloaded here; found in a folder, its repository known; found, its repository unknown;
in a read-only store of another program."""

LOCAL_OWNER = "local"
"""The owner in the ids of models whose repository is unknown."""


class Model(Value, frozen=True):
    """One registered model.

    Attributes:
        id: The id of the download that brought it; of an imported one of unknown repository `local/<name>`.
        commit_sha: The commit its files come from; None unknown.
        label: Quantization label; None where the files carry none.
        files: Shards in their order, then companions.
        registered_at_s: Unix time.
        origin: Where it came from.
        checked_at_s: Unix time of the last look at the Hub for a newer version; None where it was never checked.
        latest_commit_sha: The commit that its revision meant at that look; None where it was never checked.
        has_update: Whether one of its files was another one there; None where it was never checked.
        hosts: The hosts of a cluster that have it, with their models folders; empty: it was fetched on this machine.
            Its files' paths are this machine's where it sees that folder, else those of the first host.
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

    @property
    def shards(self) -> tuple[StoredFile, ...]:
        """Files of the model itself, in their order."""
        return tuple(file for file in self.files if file.kind == "shard")

    @property
    def paths(self) -> tuple[str, ...]:
        """Their paths; the first is what a program opens."""
        return tuple(file.target for file in self.shards)

    @property
    def targets(self) -> frozenset[str]:
        """The paths of all its files."""
        return frozenset(file.target for file in self.files)

    @property
    def projector_path(self) -> str | None:
        """The path of its mmproj; None without one."""
        return next((file.target for file in self.files if file.kind == "mmproj"), None)

    @property
    def draft_path(self) -> str | None:
        """The path of its draft for speculative decoding; None without one."""
        return next((file.target for file in self.files if file.kind == "draft"), None)

    @property
    def size_bytes(self) -> int:
        """All its files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def facts(self) -> dict[str, str | int | float | bool | None]:
        """What the GGUF header of the first shard says; empty where it could not be read."""
        return next((file.facts for file in self.files if file.kind == "shard"), {})

    @property
    def parameter_count(self) -> int | None:
        """Parameters of the whole model: of a split one those of all shards together; None unknown."""
        counted = [file.facts.get("tensor_parameters") for file in self.shards]
        if len(counted) > 1 and all(isinstance(number, int) for number in counted):
            return sum(number for number in counted if isinstance(number, int))
        stated = self.facts.get("parameter_count")
        return stated if isinstance(stated, int) else None

    @property
    def is_verified(self) -> bool:
        """Whether every file hashed to what the hub states, and none was found wrong since."""
        return all(file.is_verified and file.wrong_ranges is None for file in self.files)

    @property
    def verified_at_s(self) -> float | None:
        """Unix time of the oldest of its files' verifications; None where one was never verified."""
        times = [file.verified_at_s for file in self.files]
        return None if None in times else min((at_s for at_s in times if at_s is not None), default=None)


def find_model(models: Sequence[Model], text: str) -> Model:
    """The model that a person means by a text; case does not matter.

    It is the id, or a part of it that only one model has: without its revision, the repository alone, the repository's
    name without owner, any part of the id.

    Raises:
        ModelNotFoundError: None matches; the text names near ones.
        AmbiguousQuantizationError: Several match; `choices` has their ids.
    """
    wanted = text.strip()
    if exact := [model for model in models if str(model.id) == wanted]:
        return exact[0]
    for names in zip(*(_names(model) for model in models), strict=True):
        found = [model for model, each in zip(models, names, strict=True) if wanted.casefold() in each]
        if found:
            return _only(found, wanted)
    if found := [model for model in models if wanted and wanted.casefold() in str(model.id).casefold()]:
        return _only(found, wanted)
    raise _not_found(models, wanted)


def _names(model: Model) -> tuple[frozenset[str], ...]:
    """What a person may call a model, in small letters, from the plainest to the shortest."""
    id_, repo_id = str(model.id), model.id.repo_id
    tails = {str(DownloadId(repo_id, tail)) for tail in (model.id.quantization, model.label) if tail}
    short = {name.partition("/")[2] for name in (id_, repo_id, *tails)}
    return tuple(frozenset(map(str.casefold, names)) for names in ({id_}, tails, {repo_id}, short))


def _only(found: Sequence[Model], wanted: str) -> Model:
    if len(found) == 1:
        return found[0]
    choices = tuple(str(model.id) for model in found)
    raise AmbiguousQuantizationError(
        f"{wanted!r} could be several models; say which one: {', '.join(choices)}.", choices
    )


def _not_found(models: Sequence[Model], wanted: str) -> ModelNotFoundError:
    if not models:
        return ModelNotFoundError(
            f"There is no model {wanted!r}: none is registered yet. `%gguf queue owner/repo` downloads one."
        )
    from difflib import get_close_matches

    ids = {str(model.id).casefold(): str(model.id) for model in models}
    near = [ids[key] for key in get_close_matches(wanted.casefold(), ids, n=3, cutoff=0.5)]
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return ModelNotFoundError(f"There is no model {wanted!r}. {hint}`%gguf models` lists all.")
