"""Displays of background threads: with front ends that ignore updates, cells that capture output, and cells that stop waiting."""

from pathlib import Path

import pytest

from gglib_nb.manager import calls
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.kernel import Cell, Kernel, wait_until

MB = 1_000_000


@pytest.fixture
def hub(hub: FaultyHub) -> FaultyHub:
    """A hub with a model that takes two seconds, and one that takes a minute."""
    hub.add_repository(make_repository("demo/short", {"short-Q4_K_M.gguf": 3 * MB}))
    hub.add_repository(make_repository("demo/long", {"long-Q4_K_M.gguf": 100 * MB}))
    hub.set_speed(2 * MB)
    return hub


def without_updates(cell: Cell) -> str:
    """The outputs shown by a front end that ignores updates, such as the console or an `Output` widget."""
    return "\n".join(output["data"]["text/plain"] for output in cell.outputs if output["type"] == "display_data")


def with_updates(cell: Cell) -> str:
    """The outputs that a notebook shows."""
    shown: list[list[str]] = []
    for output in cell.outputs:
        if "display_data" in output["type"]:
            id_, text = output["transient"]["display_id"], output["data"]["text/plain"]
            # JupyterLab and nbclient update existing displays with this id, even if it is displayed again.
            shown = [[each, text if each == id_ else before] for each, before in shown]
            if output["type"] == "display_data":
                shown.append([id_, text])
    return "\n".join(text for _, text in shown)


@pytest.mark.parametrize(
    "code", ["import gglib_nb\n_ = await gglib_nb.download('demo/short')", "%gguf queue demo/short\n%gguf wait"]
)
def test_the_end_of_a_download_is_shown_once_even_if_updates_are_ignored(
    hub: FaultyHub, kernel: Kernel, code: str
) -> None:
    hub.set_speed(8 * MB)
    cell = kernel.run(f"%load_ext gglib_nb\n{code}", has_person=True)

    assert "SHA-256 verified" in without_updates(cell)
    assert with_updates(cell).count("SHA-256 verified") == 1
    assert "0 %" not in with_updates(cell).replace("100 %", "")


@pytest.mark.slow
def test_captured_output_contains_nothing_of_another_cells_panel(
    hub: FaultyHub, kernel: Kernel, tmp_path: Path
) -> None:
    over = tmp_path / "over"
    kernel.run("import gglib_nb\n%load_ext gglib_nb\n%gguf queue demo/short")
    panel = kernel.run("%gguf", has_person=True)

    capturing = kernel.submit(
        f"%%capture cap\nimport os, time\nwhile not os.path.exists({str(over)!r}): time.sleep(0.05)", has_person=True
    )
    update = kernel.wait_for_update(capturing)
    over.touch()
    kernel.wait(capturing)

    assert update["transient"] == panel.outputs[0]["transient"]
    assert "SHA-256 verified" in update["data"]["text/plain"]
    assert kernel.value("len(cap.outputs)") == "0"
    assert kernel.value("repr(cap.stdout + cap.stderr)") == "''"


@pytest.mark.slow
def test_a_download_in_a_capturing_cell_leaves_one_output_with_its_end(hub: FaultyHub, kernel: Kernel) -> None:
    kernel.run("%load_ext gglib_nb\nimport gglib_nb", has_person=True)
    kernel.run("%%capture cap\n_ = gglib_nb.get_manager().sync.download('demo/short')", has_person=True)

    assert kernel.value("len(cap.outputs)") == "1"
    assert "SHA-256 verified" in kernel.value("cap.outputs[0].data['text/plain']")


WAITING = """
import sys
def is_waiting():
    names = []
    for frame in sys._current_frames().values():
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
    return "settled" in names
"""
GIVING_UP = {
    "wait_for": "try:\n    await asyncio.wait_for(gglib_nb.download('demo/long'), 3)\nexcept asyncio.TimeoutError:\n    pass",
    "task": "task = asyncio.ensure_future(gglib_nb.download('demo/long'))\nawait asyncio.sleep(3)\ntask.cancel()",
}


def wait_until_it_is_given_up(kernel: Kernel, cell: Cell) -> None:
    """Wait until the cell's output says so and no thread of the kernel waits."""
    kernel.run(WAITING)
    wait_until(lambda: kernel.value("is_waiting()") == "False", 60, "the end of the waiting thread")
    wait_until(lambda: kernel.run("0") and "no longer waits" in with_updates(cell), 60, "the output's last update")


@pytest.mark.slow
@pytest.mark.parametrize("way", GIVING_UP)
def test_a_cell_that_stops_waiting_says_so_and_leaves_no_thread(hub: FaultyHub, kernel: Kernel, way: str) -> None:
    kernel.run("import gglib_nb\n_ = gglib_nb.get_manager().sync.download('demo/short')")  # starts the engine
    cell = kernel.run(f"import asyncio, time, gglib_nb\n{GIVING_UP[way]}", has_person=True)

    assert cell.status == "ok", cell.text
    wait_until_it_is_given_up(kernel, cell)
    assert kernel.value("len(gglib_nb.get_manager().snapshot.items)") == "1"
    kernel.run("gglib_nb.get_manager().sync.cancel_all()")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("gglib_nb.get_manager().sync.download('demo/long')", "KeyboardInterrupt"),
        ("await gglib_nb.download('demo/long')", "CancelledError"),
    ],
)
def test_an_interrupted_wait_is_reported_in_its_output_and_in_one_line(
    hub: FaultyHub, kernel: Kernel, call: str, error: str
) -> None:
    kernel.run("%load_ext gglib_nb\nimport gglib_nb")
    cell = kernel.submit(call, has_person=True)
    kernel.wait_for_output(cell)

    kernel.interrupt()
    kernel.wait(cell)

    assert cell.error is not None
    assert cell.error["ename"] == error
    assert cell.error["traceback"] == [f"{error}: {calls._INTERRUPTED}"]
    wait_until_it_is_given_up(kernel, cell)
    kernel.run("gglib_nb.get_manager().sync.cancel_all()")


STREAM = """
import sys, gglib_nb
class Logger:
    def write(self, text): written.append(text)
    def flush(self): pass
written = []
kept = sys.stdout, sys.stderr
sys.stdout = sys.stderr = Logger()
try:
    path = gglib_nb.get_manager().sync.download('demo/short')
    get_ipython().run_line_magic('gguf', 'status')
    get_ipython().run_line_magic('gguf', 'wait')
finally:
    sys.stdout, sys.stderr = kept
print(path)
"""


@pytest.mark.parametrize("has_person", [True, False])
def test_write_only_streams_are_sufficient(hub: FaultyHub, kernel: Kernel, has_person: bool) -> None:
    kernel.run("%load_ext gglib_nb")
    hub.set_speed(8 * MB)
    cell = kernel.run(STREAM, has_person=has_person)

    assert cell.status == "ok", cell.text
    assert "short-Q4_K_M.gguf" in cell.stream("stdout")


@pytest.mark.slow
def test_at_logging_level_info_a_cell_shows_no_request_lines(hub: FaultyHub, kernel: Kernel) -> None:
    cell = kernel.run(
        "import logging, gglib_nb\nlogging.basicConfig(level=logging.INFO, force=True)\n"
        "_ = gglib_nb.get_manager().sync.plan('demo/short')\n_ = await gglib_nb.download('demo/short')",
        has_person=True,
    )

    assert "HTTP Request" not in cell.text
    assert cell.stream("stderr") == ""


def test_a_panel_whose_comm_a_front_end_has_closed_is_replaced(hub: FaultyHub, kernel: Kernel) -> None:
    view = "application/vnd.jupyter.widget-view+json"
    first = kernel.run("%load_ext gglib_nb\n%gguf", has_person=True).output_of("display_data")
    model_id = first["data"][view]["model_id"] if first else ""
    close = f"get_ipython().kernel.comm_manager.comm_close(None, None, {{'content': {{'comm_id': '{model_id}'}}}})"

    second = kernel.run(f"{close}\n%gguf", has_person=True).output_of("display_data")

    assert second is not None
    assert second["data"][view]["model_id"] != model_id
