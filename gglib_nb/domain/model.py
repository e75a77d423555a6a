"""A model that stands on the disk, as the catalog keeps it."""

from dataclasses import dataclass

from gglib_nb.domain.download import HostFolder, StoredFile
from gglib_nb.domain.references import DownloadId


@dataclass(frozen=True, slots=True)
class Model:
    """One registered model.

    Attributes:
        id: The id of the download that brought it.
        commit_sha: The commit its files come from.
        label: Quantization label; None where the files carry none.
        files: Shards in their order, then companions.
        registered_at_s: Unix time.
        hosts: The hosts of a cluster that have it, with their models folders; empty: it was fetched on this machine.
            Its files' paths are this machine's where it sees that folder, else those of the first host.
    """

    id: DownloadId
    commit_sha: str
    label: str | None
    files: tuple[StoredFile, ...]
    registered_at_s: float
    hosts: tuple[HostFolder, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Files of the model itself, in shard order; the first is what a program opens."""
        return tuple(file.target for file in self.files if file.kind == "shard")

    @property
    def size_bytes(self) -> int:
        """All its files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def facts(self) -> dict[str, str | int | float | bool | None]:
        """What the GGUF header of the first shard says; empty where it could not be read."""
        return next((file.facts for file in self.files if file.kind == "shard"), {})

    @property
    def is_verified(self) -> bool:
        """Whether every file hashed to what the hub states."""
        return all(file.is_verified for file in self.files)
