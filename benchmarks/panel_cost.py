"""The cost of the live panel while everything changes: CPU in the kernel, messages, and frames in the page.

    python -m benchmarks.panel_cost [--seconds 10]

The kernel is a real one, whose panel gets a new snapshot ten times a second from a thread, as from the queue; its
CPU is that of the whole process, minus its idle use. Snapshots are made before, because they are the
queue's cost. The page is the tests' light host.
"""

import argparse
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import CDPSession, sync_playwright

from benchmarks.report import Bar, Findings
from gglib_nb.domain.snapshot import QueueSnapshot
from gglib_nb.notebook.messages import plain
from gglib_nb.notebook.panel import Feed
from tests.support.fake_manager import FakeManager
from tests.support.kernel import Kernel
from tests.support.panelpage import PanelPage
from tests.support.snapshots import GB, download, shards, snapshot

ROOT = Path(__file__).resolve().parents[1]
HZ = 10
TICKS = 40
# Models, files of each, active models with all files changing, and the limit of a core in the kernel, in percent. An
# engine has 16 connections, so more than 80 active files do not occur; 1,000 show how the cost grows.
CASES: dict[tuple[int, int, int], float | None] = {(5, 10, 5): 1.0, (50, 20, 4): 2.0, (50, 20, 50): None}
_HEAD = ("queue", "kernel", "messages/s", "page CPU/tick", "frame median", "frame p99")
FRAME_MS = 16.0

_IN_KERNEL = """
import threading, time
from dataclasses import replace
from benchmarks.panel_cost import HZ, moving
from gglib_nb.notebook.panel import Panel
from tests.support.fake_manager import FakeManager

def cost(models, files, moving_models, seconds):
    ticks = list(moving(models, files, moving_models))
    manager = FakeManager()
    panel = Panel(manager)
    manager.tell(replace(ticks[-1], version=2))
    def publish():
        number, due = 3, time.monotonic()
        while time.monotonic() < over:
            manager.tell(replace(ticks[number % len(ticks)], version=number))
            number, due = number + 1, due + 1 / HZ
            time.sleep(max(0, due - time.monotonic()))
    idle, started = time.process_time(), time.monotonic()
    time.sleep(2)
    idle = (time.process_time() - idle) / (time.monotonic() - started)
    over, busy, started = time.monotonic() + seconds, time.process_time(), time.monotonic()
    thread = threading.Thread(target=publish)
    thread.start()
    thread.join()
    busy = (time.process_time() - busy) / (time.monotonic() - started)
    print(busy - idle, panel.state.seq / seconds)
"""


def moving(models: int, files: int, moving_models: int) -> Iterator[QueueSnapshot]:
    """A queue in which the given number of models change with all their files, tick by tick; the rest are the same objects."""
    still = [_model(number, files, 0, "queued") for number in range(moving_models, models)]
    for tick in range(TICKS):
        live = [_model(number, files, tick + 1, "downloading") for number in range(moving_models)]
        plain = snapshot(*live, max_size=models, bytes_per_second=9e7 + tick, eta_seconds=500.0 - tick)
        yield replace(plain, items=(*plain.items, *still))


def _model(number: int, files: int, tick: int, status: str) -> Any:
    sizes = [GB] * files
    done = [tick * 10_000_000 + index for index in range(files)] if tick else [0] * files
    fields = {"bytes_per_second": 2e7 + tick, "eta_seconds": 400.0 - tick, "position": number} if tick else {}
    bars = shards(f"model-{number}", sizes, done)
    return download(
        f"o/model-{number}-GGUF:Q4_K_M",
        status,
        total_bytes=sum(sizes),
        downloaded_bytes=sum(done),
        shards=bars,
        **fields,
    )


def in_kernel(cases: list[tuple[int, int, int]], seconds: float) -> list[tuple[float, float]]:
    """Share of a core and messages a second, for each case."""
    with TemporaryDirectory() as folder, Kernel(Path(folder), "http://localhost:9", working_folder=ROOT) as kernel:
        kernel.run(_IN_KERNEL)
        texts = [
            kernel.run(f"cost({m}, {f}, {active}, {seconds})", timeout_s=60 + seconds).text for m, f, active in cases
        ]
    return [(float(share), float(rate)) for share, rate in map(str.split, texts)]


_REPLAY = """async (hz) => {
  const times = [];
  for (const message of messages) {
    const due = performance.now() + 1000 / hz;
    const start = performance.now();
    model.emit("msg:custom", message, []);
    const script = performance.now() - start;
    // The panel has asked for its frame already, so this runs after it has painted, before the browser lays out.
    times.push(await new Promise((done) => requestAnimationFrame((begun) => {
      document.body.offsetHeight;
      done(script + performance.now() - begun);
    })));
    await new Promise((done) => setTimeout(done, due - performance.now()));
  }
  return times;
}"""


def in_page(models: int, files: int, moving_models: int, seconds: float) -> tuple[float, list[float]]:
    """With one changing row expanded to its files: CPU of the page's main thread per tick, and every frame, in milliseconds.

    A frame is the wall time of its message and the panel's painting, with layout; a busy machine increases it.
    """
    ticks = list(moving(models, files, moving_models))
    count = int(seconds * HZ)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        panel = PanelPage(chromium.new_page(viewport={"width": 1000, "height": 900}), FakeManager())
        panel.manager.tell(replace(ticks[-1], version=2))
        panel.pump()
        panel.press("Details of model-0-GGUF Q4_K_M")
        feed = Feed(panel.manager.snapshot)
        seq = panel.widget.state.seq
        news = (feed.advance(replace(ticks[number % TICKS], version=number)) for number in range(3, 3 + count))
        messages = [
            {**plain(changes), "seq": seq + number} for number, changes in enumerate(filter(None, news), start=1)
        ]
        # Here, because what Playwright takes to read them is not the panel's.
        panel.page.evaluate("messages => { window.messages = messages; }", messages)
        clock = panel.page.context.new_cdp_session(panel.page)
        clock.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = _task_ms(clock)
        frames = panel.page.evaluate(_REPLAY, HZ)
        cpu_ms = (_task_ms(clock) - before) / len(messages)
        chromium.close()
    return cpu_ms, frames


def _task_ms(clock: CDPSession) -> float:
    metrics = {each["name"]: each["value"] for each in clock.send("Performance.getMetrics")["metrics"]}
    # The cost of reading this benchmark's messages is not the panel's.
    return 1000 * float(metrics["TaskDuration"] - metrics["DevToolsCommandDuration"])


def measure(seconds: float) -> Findings:
    """Every case once."""
    findings = Findings("P", "the panel's cost", _HEAD)
    for case, (share, rate) in zip(CASES, in_kernel(list(CASES), seconds), strict=True):
        models, files, active = case
        cpu_ms, frames = in_page(*case, seconds)
        middle, slow = median(frames), quantiles(frames, n=100)[98]
        name = f"{models} x {files} files, {active} moving"
        shown = [f"{share:.2%}", f"{rate:.1f}", *(f"{value:.1f} ms" for value in (cpu_ms, middle, slow))]
        findings.rows.append([name, *shown])
        findings.bars += [
            Bar(f"{name}: a core in the kernel", share * 100, CASES[case], " %"),
            Bar(f"{name}: messages a second", rate, HZ + 0.5),
            Bar(f"{name}: the page's thread for a tick", cpu_ms, FRAME_MS, " ms"),
        ]
    findings.notes.append("The page's thread counts its own CPU; a frame is wall time, which a busy machine increases.")
    return findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    findings = measure(parser.parse_args().seconds)
    for row in [findings.head, *findings.rows]:
        print("  ".join(f"{cell:>26}" for cell in row))
    for bar in findings.bars:
        print(" | ".join(bar.cells()))


if __name__ == "__main__":
    main()
