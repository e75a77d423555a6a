"""What `import gglib_nb` promises, and that it costs nothing before it is used."""

import subprocess
import sys

import gglib_nb
from gglib_nb import errors

PORT = {
    "DownloadId",
    "DownloadManager",
    "DownloadManagerConfig",
    "DownloadRequest",
    "DownloadStatus",
    "QueueRunSummary",
    "QueueSnapshot",
    "Quantization",
    "QueuedDownload",
    "download",
    "get_manager",
    "run",
    "variants_of",
}


def test_everything_the_port_names_is_importable_from_the_package() -> None:
    assert set(gglib_nb.__all__) >= PORT


def test_every_error_is_importable_from_the_package() -> None:
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and not name.startswith("_")}

    assert {name for name in tree if name.endswith("Error")} <= set(gglib_nb.__all__)


def test_every_promised_name_is_there() -> None:
    missing = [name for name in gglib_nb.__all__ if not hasattr(gglib_nb, name)]

    assert missing == []


def test_no_name_is_promised_twice() -> None:
    assert len(gglib_nb.__all__) == len(set(gglib_nb.__all__))


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert gglib_nb.__version__ == version("gglib-nb")


def test_importing_the_package_loads_neither_the_hub_client_nor_widgets() -> None:
    code = "import sys, gglib_nb; print(sorted({'huggingface_hub', 'anywidget', 'IPython'} & set(sys.modules)))"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[]"


def test_tab_offers_what_is_promised_and_nothing_else() -> None:
    assert set(dir(gglib_nb)) == {"__version__", *gglib_nb.__all__}
