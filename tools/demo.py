"""Demonstrates gglib_nb: a hub on loopback, and a notebook that uses it.

    python tools/demo.py             JupyterLab on the first notebook, until Ctrl-C
    python tools/demo.py --headless  runs it to the end without a browser and prints the downloaded files
    python tools/demo.py --check     runs every notebook and compares with the outputs stored in it
    python tools/demo.py --store     runs every notebook and stores its outputs
    python tools/demo.py --repo ID   the real Hub, with the given repository

With the embedded hub all files are written below `.demo`, or `--folder`; with the real one, to gglib_nb's usual
folders. It does what a user would do by hand, with the same commands; the package does not depend on it.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from gglib_nb.demo import DemoHub
from gglib_nb.demo.generated import generated_repositories

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
FIRST = NOTEBOOKS / "01_first_download.ipynb"
WATCHABLE_BYTES_PER_SECOND = 5_000_000
HEADLESS_BYTES_PER_SECOND = 20_000_000
LONGEST_CELL_S = 24 * 3600


def main() -> int:
    """Runs one of the modes; returns the exit status."""
    options = _options()
    is_watched = not (options.headless or options.check or options.store)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not one in the home folder
    with ExitStack() as stack:
        hub = None
        if options.repo is None:
            hub = stack.enter_context(_embedded_hub(is_watched=is_watched))
            _point_at(hub, options.folder / ("lab" if is_watched else "run"))
        else:
            os.environ["DEMO_REPO"] = options.repo
        if options.check:
            return _check()
        if options.store:
            return _store()
        return _lab(options.folder / "jupyter") if is_watched else _headless(hub)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="gglib_nb at work, in a notebook.")
    parser.add_argument("--headless", action="store_true", help="without a browser, to its end")
    parser.add_argument("--check", action="store_true", help="compare every notebook with its stored outputs")
    parser.add_argument("--store", action="store_true", help="run every notebook and store its outputs")
    parser.add_argument("--repo", metavar="OWNER/NAME", help="a repository of the real Hub, in place of the demo's")
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo", help="where all of it is written (.demo)")
    return parser.parse_args()


def _embedded_hub(*, is_watched: bool) -> DemoHub:
    speed = WATCHABLE_BYTES_PER_SECOND if is_watched else HEADLESS_BYTES_PER_SECOND
    return DemoHub(generated_repositories(), bytes_per_second=speed)


def _point_at(hub: DemoHub, folder: Path) -> None:
    """Sets the hub as the endpoint, and an empty folder for everything the notebook writes."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "DEMO_REPO"):
        os.environ.pop(name, None)
    loopback = "127.0.0.1,localhost"
    os.environ |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "huggingface"),
        "GGLIB_MODELS_DIR": str(folder / "models"),
        "GGLIB_STATE_DIR": str(folder / "state"),
        "GGLIB_CONFIG_DIR": str(folder / "config"),
        "NO_PROXY": loopback,
        "no_proxy": loopback,
    }


def _lab(settings: Path) -> int:
    command = [
        *(sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={NOTEBOOKS}"),
        *(f"--LabApp.default_url=/lab/tree/{FIRST.name}", "--ServerApp.answer_yes=True", "--LabApp.news_url="),
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    _settle_in(settings)
    lab = subprocess.Popen(command, cwd=ROOT)  # noqa: S603  # our own words only
    while True:
        try:
            return lab.wait()
        except KeyboardInterrupt:
            print("Stopping.", flush=True)  # JupyterLab gets the same Ctrl-C, and ends its kernels first


def _settle_in(folder: Path) -> None:
    """A separate workspace and settings, so that Jupyter opens only this notebook and shows no news dialog over the panel."""
    notes = folder / "settings" / "@jupyterlab" / "apputils-extension"
    notes.mkdir(parents=True, exist_ok=True)
    (notes / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}\n')
    os.environ["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
    os.environ["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")


def _headless(hub: DemoHub | None) -> int:
    _run(FIRST, _print_cell)
    return _print_landed(hub, Path(os.environ["GGLIB_MODELS_DIR"])) if hub else 0


def _run(path: Path, on_cell_executed: Callable[..., None] | None = None) -> nbformat.NotebookNode:
    """Runs a notebook to its end and returns it with its outputs."""
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=LONGEST_CELL_S,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # it would warn about plain TCP on loopback
        on_cell_executed=on_cell_executed,
    ).execute()
    return notebook


def _print_cell(cell: nbformat.NotebookNode, **_: object) -> None:
    print("\n".join(f">>> {line}" for line in cell.source.splitlines()))
    for output in cell.get("outputs", []):
        text = output.get("text") or output.get("data", {}).get("text/plain", "") or output.get("evalue", "")
        print(text.rstrip("\n"), flush=True)


def _print_landed(hub: DemoHub, models: Path) -> int:
    """Prints every file with its size and SHA-256; returns 1 if one differs from the hub's, or none was downloaded."""
    served = {
        f"{repo_id}/{file.path}": file
        for repo_id, repository in hub.repositories.items()
        if (commit := repository.commit()) is not None
        for file in commit.files.values()
    }
    landed = sorted(models.rglob("*.gguf"))
    print(f"\nLanded in {models}:")
    is_right = bool(landed)
    for path in landed:
        name = path.relative_to(models).as_posix()
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        is_same = name in served and served[name].content.sha256 == sha256
        is_right &= is_same
        print(f"{path.stat().st_size:>12} bytes  sha256 {sha256}  {name}{'' if is_same else '  NOT AS SERVED'}")
    return 0 if is_right else 1


def _store() -> int:
    """Stores outputs for readers: without this machine's paths, and without widgets that need a kernel."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = _run(path)
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            for output in cell.get("outputs", []):
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        notebook.metadata.pop("widgets", None)
        text = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
        path.write_text(text.replace(os.environ["GGLIB_MODELS_DIR"], "/models") + "\n")
    return 0


def _check() -> int:
    command = [
        *(
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "nbval.plugin",
            "-p",
            "anyio",
            "-p",
            "timeout",
            "--nbval",
            "--nbval-current-env",
        ),
        *("--nbval-sanitize-with", str(NOTEBOOKS / "sanitize.cfg"), str(NOTEBOOKS)),
    ]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.call(command, cwd=ROOT, env=environment)  # noqa: S603  # our own words only


if __name__ == "__main__":
    sys.exit(main())
