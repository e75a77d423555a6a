"""What the profile of IPython says: `c.Gglib.max_concurrent = 2` in `ipython_kernel_config.py`.

Read when the extension is loaded; what is left out there stays open.
"""

from typing import Any

from traitlets import Bool, Integer, Unicode
from traitlets.config import Configurable


class Gglib(Configurable):
    """Settings of gglib_nb, with the names and meanings of `DownloadManagerConfig`; None leaves one open."""

    models_directory = Unicode(None, allow_none=True, help="Folder of the models.").tag(config=True)
    state_directory = Unicode(None, allow_none=True, help="Folder of the catalog and the engine's log.").tag(
        config=True
    )
    endpoint = Unicode(None, allow_none=True, help="The hub, or a mirror.").tag(config=True)
    hub_cache = Unicode(None, allow_none=True, help="Folder of the Hugging Face cache.").tag(config=True)
    max_concurrent = Integer(None, allow_none=True, help="Downloads that run at once.").tag(config=True)
    max_queue_size = Integer(None, allow_none=True, help="Downloads that may wait.").tag(config=True)
    max_connections = Integer(None, allow_none=True, help="Connections of all transfers together.").tag(config=True)
    bandwidth_limit_bytes_per_second = Integer(None, allow_none=True, help="Of all transfers together.").tag(
        config=True
    )
    download_hours = Unicode(None, allow_none=True, help="Hours in which downloads run: 22:00-7:00.").tag(config=True)
    network_wait_s = Integer(None, allow_none=True, help="How long a lost network is waited for.").tag(config=True)
    activity_interval_s = Integer(None, allow_none=True, help="How often activity is shown; 0 never.").tag(config=True)
    engine = Unicode(None, allow_none=True, help="Where transfers run: local, dask://scheduler:8786, auto.").tag(
        config=True
    )
    is_offline = Bool(None, allow_none=True, help="Nothing is asked of the hub.").tag(config=True)

    def given(self) -> dict[str, Any]:
        """What the profile says, by name."""
        return {name: value for name in self.trait_names(config=True) if (value := getattr(self, name)) is not None}
