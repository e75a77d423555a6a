"""Registered models."""

from collections.abc import Iterable
from typing import Final, Literal

from gglib_nb.domain.download import HostFolder, StoredFile
from gglib_nb.domain.printable import printable
from gglib_nb.domain.references import DownloadId
from gglib_nb.domain.values import Value

ModelOrigin = Literal["hub", "import", "local", "store"]
"""Where a model came from: downloaded here; found in a folder, its repository known; found, its repository unknown;
in a read-only store of another program."""

LOCAL_OWNER = "local"
"""The owner in the ids of models whose repository is unknown."""

# Architectures that embed text and have no chat (llama.cpp, src/llama-arch.cpp).
_EMBEDDING: Final = frozenset(
    {"bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
     "gemma-embedding", "t5encoder", "clip", "wavtokenizer-dec"}
)  # fmt: skip


class Model(Value, frozen=True):
    """One registered model. Times are Unix times.

    Attributes:
        id: The id of its download; of an imported one of unknown repository `local/<name>`.
        commit_sha: The commit of its files; None: unknown.
        label: Label of the quantization; None: the file names state none.
        files: Shards in order, then companions.
        origin: `hub`: downloaded here; `import`: found in a folder, its repository known; `local`: its repository
            unknown; `store`: in a read-only store of another program.
        checked_at_s: The last check for a newer version; None: never checked.
        latest_commit_sha: The commit of its revision at that check; None: never checked.
        has_update: Whether one of its files had changed then; None: never checked.
        hosts: The hosts of a cluster that have it; empty: this machine. The paths of its files are this machine's if it
            sees that folder, else those of the first host.
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

    @property
    def projector_path(self) -> str | None:
        """The path of its mmproj; None: it has none."""
        return next((file.target for file in self.files if file.kind == "mmproj"), None)

    @property
    def draft_path(self) -> str | None:
        """The path of its draft for speculative decoding; None: it has none."""
        return next((file.target for file in self.files if file.kind == "draft"), None)

    @property
    def size_bytes(self) -> int:
        """All its files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def facts(self) -> dict[str, str | int | float | bool | None]:
        """What the GGUF header of the first shard says; empty: unreadable."""
        return next((file.facts for file in self.files if file.kind == "shard"), {})

    @property
    def parameter_count(self) -> int | None:
        """Parameters of the whole model, of a split one those of all shards; None: unknown."""
        counted = [file.facts.get("tensor_parameters") for file in self.shards]
        if len(counted) > 1 and all(isinstance(number, int) for number in counted):
            return sum(number for number in counted if isinstance(number, int))
        stated = self.facts.get("parameter_count")
        return stated if isinstance(stated, int) else None

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
    """What is odd about a model's content, as one line; empty: nothing. `others` are the other registered models."""
    facts = model.facts
    if not facts:
        return "it is not a GGUF file that can be read"
    if isinstance(names := facts.get("template_introspection"), str) and names:
        return printable(
            f"its chat template uses Python introspection ({names}): load it only where templates are sandboxed"
        )
    template = facts.get("chat_template_sha256")
    if template is None:
        is_chat = facts.get("has_chat_template") is False and facts.get("architecture") not in _EMBEDDING
        return "it has no chat template" if is_chat else ""
    for other in others:
        if other.id.repo_id != model.id.repo_id or other.commit_sha != model.commit_sha or other.id == model.id:
            continue
        if other.facts.get("chat_template_sha256") not in (None, template):
            return printable(f"its chat template differs from that of {other.label or other.id}")
    return ""
