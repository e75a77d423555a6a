"""`%gguf config` in a real kernel: set before the first download, saved for the next kernel, and set by a profile."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from gglib_nb.errors import InvalidConfigError
from gglib_nb.notebook import magic
from gglib_nb.settings import DownloadManagerConfig, asked_for, use_profile
from tests.support.faulty_hub import FaultyHub
from tests.support.kernel import Kernel
from tests.support.models import one_model


@pytest.mark.slow
def test_a_folder_set_before_the_first_download_is_used_and_a_saved_one_outlives_the_kernel(
    hub: FaultyHub, kernel: Kernel, tmp_path: Path
) -> None:
    hub.add_repository(one_model("demo/model", 300_000))
    folder = tmp_path / "other folder"

    answer = kernel.run(f"%gguf config models_directory '{folder}'")
    kernel.run("%gguf config max_concurrent 3 --save\n%gguf queue demo/model\n%gguf wait")
    refused = kernel.run("%gguf config models_directory /elsewhere")
    shown = kernel.run("%gguf config models_directory")
    with Kernel(tmp_path, hub.url) as successor:
        successor.run("%load_ext gglib_nb")
        saved = successor.run("%gguf config max_concurrent")

    assert answer.text.startswith(f"models_directory is {folder} in this kernel.")
    assert list(folder.rglob("*.gguf"))
    assert refused.text.startswith(
        "InvalidConfigError: models_directory cannot change while this kernel's manager runs."
    )
    assert shown.text.startswith(f"models_directory is {folder} (set here).")
    assert saved.text.startswith("max_concurrent is 3 (saved: ")


@pytest.fixture
def load() -> Iterator[object]:
    """Loads the extension in a shell with profile settings."""
    InteractiveShell.clear_instance()

    def load(**settings: object) -> None:
        profile = Config({"HistoryManager": {"enabled": False}, "Gglib": settings})
        magic.load(InteractiveShell.instance(config=profile))

    yield load
    magic.unload(InteractiveShell.instance())
    InteractiveShell.clear_instance()
    use_profile({})


def test_profile_settings_apply_to_later_managers(load) -> None:
    load(max_concurrent=2, download_hours="22-7")

    settings = DownloadManagerConfig.of_kernel()

    assert (settings.max_concurrent, str(settings.download_hours)) == (2, "22:00-07:00")
    asked = asked_for("max_concurrent")
    assert asked is not None
    assert (asked[1].source, asked[1].where) == ("profile", "c.Gglib.max_concurrent")


def test_an_invalid_profile_is_reported_when_read(load) -> None:
    with pytest.raises(InvalidConfigError, match="max_connections is 1000"):
        load(max_connections=1000)
