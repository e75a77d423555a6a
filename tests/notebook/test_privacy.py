"""The token is only in requests to the hub's origin, whatever its source; and no signed URL is stored.

One scenario for each source: plan, search, queue, a panel, failures of every kind, a hub that echoes the token, a
download in progress, with all logging at DEBUG. Then every place in `PLACES` is searched; `docs/privacy.md` has the
list.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import nbformat
import psutil
import pytest

from tests.support.environment import isolated
from tests.support.faulty_hub import FaultyHub, HangUp, Status
from tests.support.hub import make_repository
from tests.support.kernel import Cell, Kernel

CANARY = "hf_CANARYcanaryCANARYcanary0123456789"
# Part of a signed URL of the storage.
SIGNATURE = "Signature="
REPO = "demo/gated-GGUF"
REFUSED = "demo/refused-GGUF"

Ways = Mapping[str, Callable[[Path], dict[str, str]]]


def in_file(folder: Path) -> dict[str, str]:
    (folder / "huggingface").mkdir()
    (folder / "huggingface" / "token").write_text(CANARY)
    return {}


def in_hand(folder: Path) -> dict[str, str]:
    (folder / "canary.txt").write_text(CANARY)
    return {"CANARY_FILE": str(folder / "canary.txt")}


WAYS_IN: Ways = {
    "an argument (`hf_token`)": in_hand,
    "the environment (`HF_TOKEN`)": lambda folder: {"HF_TOKEN": CANARY},
    "the file that `hf auth login` writes": in_file,
}

PLACES = (
    "arguments of every child process",
    "environment of every child process",
    "log of the engine, and what kernel and engine print",
    "records of `logging` in the kernel, at DEBUG",
    "outputs of cells: text, HTML, errors",
    "tracebacks, with the values of variables",
    "`repr` of every public object",
    "state of the panel's widget",
    "the saved notebook",
    "SQLite: catalog and queue, with their write-ahead logs",
    "models folder: partial files, journals, leases",
    "requests to any other origin than the hub's",
)

BEGIN = """
import io, logging
records = io.StringIO()
logging.basicConfig(level=logging.DEBUG, stream=records, force=True)
import os
if "CANARY_FILE" in os.environ:
    import gglib_nb.manager.manager as kernels
    from gglib_nb import DownloadManager, DownloadManagerConfig
    config = DownloadManagerConfig(hf_token=open(os.environ["CANARY_FILE"]).read(), models_directory=os.environ["GGLIB_MODELS_DIR"])
    own = DownloadManager(config)
    kernels.get_manager = lambda: own
%load_ext gglib_nb
import gglib_nb
"""

ERRORS = """
import traceback
tracebacks = []
manager = kernels.get_manager() if "CANARY_FILE" in os.environ else gglib_nb.get_manager()
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
hasty = HubClient(manager.config.endpoint, manager.config.hf_token, retry_policy=RetryPolicy(tries=1))
for ask in (
    lambda: manager.sync.download("demo/nope-GGUF"),
    lambda: manager.sync.download("demo/refused-GGUF"),
    lambda: manager.sync.plan("demo/gated-GGUF", revision="nope"),
    lambda: manager.sync.search("small", sort="nothing"),
    lambda: hasty.list_files("demo/broken-GGUF"),
):
    try:
        ask()
    except Exception as error:
        captured = traceback.TracebackException.from_exception(error, capture_locals=True)
        tracebacks += [*captured.format(), *traceback.format_exception(error)]
"""

END = """
import json
from ipywidgets import Widget
public = [manager, manager.config, manager.hub, manager.snapshot, manager.sync, manager.catalog, manager.sync.models()]
public += [value for value in vars(manager).values()] + list(manager.snapshot.recent_failures)
found = {
    "records": records.getvalue(),
    "tracebacks": "".join(tracebacks),
    "reprs": "\\n".join(f"{one!r} {one!s}" for one in public),
    "widgets": json.dumps(Widget.get_manager_state(), default=str),
}
print(json.dumps(found))
"""


@pytest.fixture
def hub(make_hub) -> FaultyHub:
    repositories = [
        make_repository(REPO, {"gated-Q4_K_M.gguf": 4_000_000}, gated="manual"),
        make_repository(REFUSED, {"refused-Q4_K_M.gguf": 1_000_000}),
    ]
    hub: FaultyHub = make_hub(repositories, tokens={CANARY: ["*"]})
    hub.faults.add(Status(400, error_message=f"{CANARY} may not read this"), path="*refused-Q4_K_M.gguf", times=None)
    hub.faults.add(HangUp(), path="/api/models/demo/broken-GGUF*", times=None)
    return hub


@pytest.fixture
def gpu_tool(tmp_path: Path) -> dict[str, str]:
    """A replacement of `nvidia-smi` that records its arguments and environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(f'#!/bin/sh\n{{ env; echo "$@"; }} > {tmp_path}/gpu-tool.txt\necho 1000\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS_IN)
def test_the_token_is_found_in_no_other_place(
    hub: FaultyHub, gpu_tool: dict[str, str], tmp_path: Path, way: str
) -> None:
    story = Story(hub, tmp_path, WAYS_IN[way](tmp_path) | gpu_tool)
    found = story.run()

    assert set(found) == set(PLACES)
    assert any("authorization" in request.headers for request in hub.requests if request.origin == "hub")
    for place in PLACES:
        texts = found[place]
        assert texts, f"nothing was searched in: {place}"
        for text in texts:
            assert CANARY not in text, f"{place}: {around(text, CANARY)}"
            assert CANARY[3:] not in text, f"{place}: {around(text, CANARY[3:])}"
            if not place.startswith("requests"):
                assert SIGNATURE not in text, f"a signed address, {place}: {around(text, SIGNATURE)}"


def around(text: str, word: str) -> str:
    at = text.find(word)
    return text[max(0, at - 300) : at + 100]


class Story:
    """One kernel's life, and what it left in each place."""

    def __init__(self, hub: FaultyHub, folder: Path, environment: dict[str, str]) -> None:
        self.hub = hub
        self.folder = folder
        self.environment = environment
        self.cells: list[Cell] = []

    def run(self) -> dict[str, list[str]]:
        with Kernel(self.folder, self.hub.url, self.environment) as kernel:
            return self._run(kernel)

    def _run(self, kernel: Kernel) -> dict[str, list[str]]:
        self._cell(kernel, BEGIN)
        self._cell(kernel, "%gguf search gated")
        self._cell(kernel, f"%gguf plan {REPO}")
        self._cell(kernel, ERRORS)
        self.hub.set_speed(bytes_per_second=600_000)
        self._cell(kernel, f"%gguf queue {REPO}")
        self._cell(kernel, "%gguf")
        self.hub.wait_for(lambda _: self.hub.bytes_sent() > 700_000, timeout_s=60)
        children = [*child_processes(kernel.pid)]
        half_way = [*self._files(("models", "state"))]
        self.hub.set_speed()
        self._cell(kernel, "%gguf wait")
        self._cell(kernel, "%gguf status")
        self._cell(kernel, "%gguf models")
        report = json.loads(self._cell(kernel, END).stream("stdout"))
        self.cells.pop()
        outputs = [json.dumps(cell.outputs) for cell in self.cells]
        names = {
            PLACES[0]: [*(arguments for arguments, _ in children), self._text("gpu-tool.txt")],
            PLACES[1]: [*(environment for _, environment in children), self._text("gpu-tool.txt")],
            PLACES[2]: [*self._files(("state/logs", "kernel.log"))],
            PLACES[3]: [report["records"]],
            PLACES[4]: outputs,
            PLACES[5]: [report["tracebacks"]],
            PLACES[6]: [report["reprs"]],
            PLACES[7]: [report["widgets"]],
            PLACES[8]: [self._saved(report["widgets"])],
            PLACES[9]: [*half_way, *self._files(("state",))],
            PLACES[10]: [*half_way, *self._files(("models",))],
            PLACES[11]: [
                f"{request.path} {request.query} {request.headers}"
                for request in self.hub.requests
                if request.origin == "cdn"
            ],
        }
        assert all("authorization" not in request.headers for request in self.hub.requests if request.origin == "cdn")
        return names

    def _cell(self, kernel: Kernel, code: str) -> Cell:
        cell = kernel.run(code, timeout_s=90)
        assert cell.status == "ok", cell.text
        self.cells.append(cell)
        return cell

    def _files(self, places: tuple[str, ...]) -> Iterator[str]:
        for place in places:
            start = self.folder / place
            for path in [start] if start.is_file() else sorted(start.rglob("*")):
                if path.is_file():
                    yield f"{path.name}: {path.read_bytes().decode('latin-1')}"

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def _saved(self, widgets: str) -> str:
        """The notebook as JupyterLab would save it, with widget state."""
        cells = [nbformat.v4.new_code_cell("") for _ in self.cells]
        for made, cell in zip(cells, self.cells, strict=True):
            made.outputs = [
                nbformat.v4.output_from_msg({"header": {"msg_type": kind}, "content": dict(output)})
                for output in cell.outputs
                if (kind := output["type"]) in ("stream", "display_data", "execute_result", "error")
            ]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": json.loads(widgets)}
        return nbformat.writes(notebook)


def child_processes(pid: int) -> Iterator[tuple[str, str]]:
    """Arguments and environment of every child process, including the engine."""
    children = psutil.Process(pid).children(recursive=True)
    assert any("gglib_nb" in " ".join(child.cmdline()) for child in children)
    for child in children:
        yield " ".join(child.cmdline()), json.dumps(child.environ())


def test_the_privacy_page_lists_every_place_and_every_token_source() -> None:
    page = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text()

    assert [line.removeprefix("- ") for line in page.splitlines() if line.removeprefix("- ") in PLACES] == list(PLACES)
    assert [way for way in WAYS_IN if way not in page] == []


def test_the_isolated_environment_has_no_token(tmp_path: Path) -> None:
    assert "HF_TOKEN" not in isolated({"HF_TOKEN": "x"}, tmp_path, "http://127.0.0.1:1")
