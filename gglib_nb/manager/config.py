"""What a manager is made with."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from gglib_nb.settings import Settings


@dataclass(frozen=True, slots=True)
class DownloadManagerConfig:
    """Settings of one manager. What is left out is the default of `gglib_nb.settings.Settings`.

    Attributes:
        models_directory: Folder of `<owner>/<repo>/<path in repo>`.
        max_concurrent: Downloads that run at once.
        max_queue_size: Downloads that may wait.
        hf_token: The Hub's token; None leaves it to huggingface_hub (`HF_TOKEN`, `hf auth login`). Never in a `repr`.
        state_directory: Folder of the database and the engine's log; None is the user's state folder.
        endpoint: The hub's base URL; None is the Hugging Face Hub.
        max_connections: Connections of all transfers together.
        bandwidth_limit_bytes_per_second: Of all transfers together; None is unlimited.
        hub_cache: The Hugging Face cache, in which identical files are looked for; None is its usual place.
    """

    models_directory: Path = Path()
    max_concurrent: int = 1
    max_queue_size: int = 10
    hf_token: str | None = field(default=None, repr=False)
    state_directory: Path | None = None
    endpoint: str | None = None
    max_connections: int = 16
    bandwidth_limit_bytes_per_second: int | None = None
    hub_cache: Path | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The configuration that settings ask for."""
        shared = {field.name for field in fields(cls)} & {field.name for field in fields(settings)}
        return cls(hf_token=settings.token, **{name: getattr(settings, name) for name in shared})

    def settings(self) -> Settings:
        """The same as checked settings, with every default filled in.

        Raises:
            InvalidConfigError: A value cannot work.
        """
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "hf_token"}
        optional = ("state_directory", "endpoint", "hub_cache")
        given = {name: value for name, value in given.items() if not (name in optional and value is None)}
        return Settings(token=self.hf_token, **given)
