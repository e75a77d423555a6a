"""What a manager is made with."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from gglib_nb.domain.hours import DailyHours
from gglib_nb.manager.setting_sources import asked_for
from gglib_nb.settings import Settings


def _asked(name: str, default: object = None) -> Callable[[], Any]:
    """What is saved, or said by profile or environment, when a configuration is made; else a default."""

    def read() -> Any:  # noqa: ANN401 - as the setting is
        asked = asked_for(name)
        return default if asked is None else asked[0]

    return read


@dataclass(frozen=True, slots=True)
class DownloadManagerConfig:
    """Settings of one manager. What is left out is what was saved, else what the environment says, else a default.

    Attributes:
        models_directory: Folder of `<owner>/<repo>/<path in repo>`; by default the present folder.
        max_concurrent: Downloads that run at once; by default 1.
        max_queue_size: Downloads that may wait; by default 10.
        hf_token: The Hub's token; None leaves it to huggingface_hub (`HF_TOKEN`, `hf auth login`). Never in a `repr`.
        state_directory: Folder of the database and the engine's log; None is the user's state folder.
        endpoint: The hub's base URL; None is the Hugging Face Hub.
        max_connections: Connections of all transfers together; by default 16.
        bandwidth_limit_bytes_per_second: Of all transfers together; None is unlimited.
        download_hours: The hours of the day in which downloads run, such as `22:00-7:00`; None is at any time.
        hub_cache: The Hugging Face cache, in which identical files are looked for; None is its usual place.
        network_wait_s: How long a download waits for a network that is gone before it fails; by default a day.
        activity_interval_s: How often the kernel shows that it is at work while a download is active; 0 never.
        is_offline: The hub is not asked; by default what `HF_HUB_OFFLINE` says.
        engine: Where transfers run: None (or `local`) on this machine; on the hosts of a Dask cluster for
            `dask://scheduler:8786`, a `distributed.Client`, a cluster object such as `LocalCluster` or its name, or `auto`
            for this process's current client. Needs the extra `gglib-nb[dask]`.
    """

    models_directory: Path = field(default_factory=_asked("models_directory", Path()))
    max_concurrent: int = field(default_factory=_asked("max_concurrent", 1))
    max_queue_size: int = field(default_factory=_asked("max_queue_size", 10))
    hf_token: str | None = field(default=None, repr=False)
    state_directory: Path | None = field(default_factory=_asked("state_directory"))
    endpoint: str | None = field(default_factory=_asked("endpoint"))
    max_connections: int = field(default_factory=_asked("max_connections", 16))
    bandwidth_limit_bytes_per_second: int | None = field(default_factory=_asked("bandwidth_limit_bytes_per_second"))
    download_hours: DailyHours | str | None = field(default_factory=_asked("download_hours"))
    hub_cache: Path | None = field(default_factory=_asked("hub_cache"))
    network_wait_s: int = field(default_factory=_asked("network_wait_s", 86_400))
    activity_interval_s: int = field(default_factory=_asked("activity_interval_s", 60))
    is_offline: bool = field(default_factory=_asked("is_offline", default=False))
    engine: object = field(default_factory=_asked("engine"))

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
        return Settings(token=self.hf_token, **{name: value for name, value in given.items() if value is not None})
