"""The exports of `import gglib_nb`, and that importing is cheap."""

import ast
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import gglib_nb
from gglib_nb import errors
from gglib_nb.manager.manager import SyncOperations

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


def test_every_name_in_the_port_is_importable_from_the_package() -> None:
    assert set(gglib_nb.__all__) >= PORT


def test_every_error_is_importable_from_the_package() -> None:
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and not name.startswith("_")}

    assert {name for name in tree if name.endswith("Error")} <= set(gglib_nb.__all__)


def test_every_exported_name_exists() -> None:
    missing = [name for name in gglib_nb.__all__ if not hasattr(gglib_nb, name)]

    assert missing == []


def test_exported_names_are_unique() -> None:
    assert len(gglib_nb.__all__) == len(set(gglib_nb.__all__))


def test_the_stub_types_exactly_the_exported_names() -> None:
    stub = ast.parse(Path(gglib_nb.__file__).with_suffix(".pyi").read_text())
    imported = [alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    defined = [node.name for node in stub.body if isinstance(node, ast.FunctionDef)]

    assert sorted(filter(None, [*imported, *defined])) == sorted(gglib_nb.__all__)


def test_every_type_in_an_operations_signature_is_exported() -> None:
    operations = inspect.getmembers(SyncOperations, inspect.isfunction)
    hints = [hint for name, one in operations if not name.startswith("_") for hint in hints_of(one).values()]
    found: set[type] = set()
    for hint in [*hints, gglib_nb.Variants, *typing.get_args(gglib_nb.QueueEvent)]:
        reach(hint, found)

    assert sorted(one.__name__ for one in found if one.__name__ not in gglib_nb.__all__) == []


def hints_of(function: object) -> dict[str, object]:
    stated = inspect.unwrap(function)  # type: ignore[arg-type]
    return typing.get_type_hints(stated, vars(sys.modules[stated.__module__]))


def reach(hint: object, found: set[type]) -> None:
    """Adds every class of ours in a type, and those in its public fields and properties."""
    for part in typing.get_args(hint):
        for one in part if isinstance(part, list) else [part]:
            reach(one, found)
    if not isinstance(hint, type) or not hint.__module__.startswith("gglib_nb") or hint in found:
        return
    found.add(hint)
    for kind in [kind for kind in hint.__mro__ if kind.__module__.startswith("gglib_nb")]:
        fields = typing.get_type_hints(kind, vars(sys.modules[kind.__module__]))
        getters = {name: one.fget for name, one in vars(kind).items() if isinstance(one, property)}
        for name in [name for name in fields if not name.startswith("_")]:
            reach(fields[name], found)
        for name in [name for name in getters if not name.startswith("_")]:
            reach(hints_of(getters[name])["return"], found)


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert gglib_nb.__version__ == version("gglib-nb")


def test_importing_the_package_loads_neither_the_hub_client_nor_widgets() -> None:
    code = "import sys, gglib_nb; print(sorted({'huggingface_hub', 'anywidget', 'IPython'} & set(sys.modules)))"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[]"


def test_completion_offers_exactly_the_exported_names() -> None:
    assert set(dir(gglib_nb)) == {"__version__", *gglib_nb.__all__}
