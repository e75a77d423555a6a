"""An endurance run: a queue in a real kernel, faults every few hundred kilobytes, random operations and kills, then the checks.

`python -m tests.endurance.run --seed 7 --minutes 10`, or `make endurance SEED=7 MINUTES=10`. Twenty downloads a minute
of 1 to 12 shards go through `chaos`; one in twelve is doomed to one error. At the end every digest is right, its row
has the right error, or it was cancelled; no process, lease, thread or descriptor is left. Then it exits with 0 and
prints its counts. It is long because it describes one run from plan to checks, in order.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gglib_nb.demo import DemoRepository
from gglib_nb.engine.lease import read_lease
from tests.endurance.chaos import Chaos
from tests.endurance.kernel_side import SETUP
from tests.support.faulty_hub import Fault, FaultyHub, Status, WrongBytes
from tests.support.hub import make_repository
from tests.support.kernel import Kernel, is_running, wait_until

DOWNLOADS_A_MINUTE = 20
LIVE_AT_ONCE = 12
DOOMS: tuple[tuple[Fault, str], ...] = (
    (WrongBytes(1_000), "IntegrityError"),
    (Status(404, "EntryNotFound"), "HubError"),
    (Status(401, "GatedRepo"), "GatedRepoError"),
)
KERNEL_KILLS = 2
ENGINE_KILLS = 5
SETTLE_S = 240.0
LINE_BYTES_PER_SECOND = 40_000_000
# Allowed growth over an idle engine: fragmentation, but nothing that keeps growing.
KEPT_BYTES = 32_000_000


@dataclass
class Wish:
    """One download of the run.

    Attributes:
        repository: The repository on the hub.
        doom: The expected error; empty: none.
        is_cancelled: It was cancelled and not queued again.
        is_over: Completed, or failed as expected.
    """

    repository: DemoRepository
    doom: str = ""
    is_cancelled: bool = False
    is_over: bool = False

    @property
    def repo_id(self) -> str:
        """Its repository."""
        return self.repository.repo_id


@dataclass
class Tally:
    """The counts.

    Attributes:
        acts: Operations by verb.
        outcomes: Downloads by outcome.
        engine_rss_bytes: Of the engine at its end.
    """

    acts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    kernel_kills: int = 0
    engine_kills: int = 0
    engine_rss_bytes: int = 0
    engine_peak_rss_bytes: int = 0
    seconds: float = 0.0


class ReckoningError(AssertionError):
    """The run did not end as expected."""


class EnduranceRun:
    """One run in its own folder."""

    def __init__(self, folder: Path, seed: int, minutes: float, kernel_kills: int, engine_kills: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._seconds = minutes * 60
        self._wishes = {wish.repo_id: wish for wish in wishes(seed, max(6, round(DOWNLOADS_A_MINUTE * minutes)))}
        self._kernel_kills = sorted(self._chance.uniform(0.2, 0.8) for _ in range(kernel_kills))
        self._engine_kills = sorted(self._chance.uniform(0.05, 0.95) for _ in range(engine_kills))
        doomed = {
            f"{wish.repo_id}/{name}": next(fault for fault, error in DOOMS if error == wish.doom)
            for wish in self._wishes.values()
            if wish.doom
            for name in wish.repository.commit().files  # type: ignore[union-attr]  # it was made with one
        }
        self.chaos = Chaos(seed, doomed)
        self.tally = Tally()
        self._engine_pids: set[int] = set()
        self._at_rest: tuple[int, int] | None = None
        self._rss_at_rest_bytes = 0

    def go(self) -> None:
        """Do it all.

        Raises:
            ReckoningError: A check failed.
        """
        began_s = time.monotonic()
        with FaultyHub(
            [wish.repository for wish in self._wishes.values()], bytes_per_second=LINE_BYTES_PER_SECOND
        ) as hub:
            for name in ("first", "last"):
                hub.add_repository(make_repository(f"demo/{name}", {f"{name}.gguf": 10_000}))
            self._hub = hub
            self._kernel = self._started_kernel()
            try:
                self._at_rest = self._footprint_after_one_download()
                hub.faults.add(self.chaos, times=None)
                self._live(began_s)
                self._make_up_for_missed_kills()
                self._settle()
                self._reckon()
            finally:
                self._kernel.shut_down()
            self._reckon_after_the_end()
        self.tally.seconds = time.monotonic() - began_s

    # Running -----------------------------------------------------------------------------------------------------

    def _live(self, began_s: float) -> None:
        while (share := (time.monotonic() - began_s) / self._seconds) < 1:
            if self._kernel_kills and share >= self._kernel_kills[0]:
                self._kernel_kills.pop(0)
                self._kill_kernel()
            if self._engine_kills and share >= self._engine_kills[0] and self._has_killed_engine():
                self._engine_kills.pop(0)
            state = self._state()
            self._note(state)
            self._keep_queue_filled(state, share)
            self._do_something(state)
            time.sleep(self._chance.uniform(0.1, 0.6))  # at a user's pace, not a test's

    def _keep_queue_filled(self, state: dict[str, Any], share: float) -> None:
        """Request downloads not yet requested, or lost with a killed kernel."""
        known = {repo_id for _, repo_id, *_ in state["rows"]} | set(state["waiting"])
        live = sum(row[2] in ("queued", "downloading", "finalizing", "registering", "paused") for row in state["rows"])
        due = round(len(self._wishes) * min(1.0, share / 0.9)) + 3
        for wish in list(self._wishes.values())[:due]:
            if live >= LIVE_AT_ONCE:
                return
            if not (wish.is_over or wish.is_cancelled) and wish.repo_id not in known:
                self._tell(f"ask({wish.repo_id!r})")
                self.tally.acts["queue"] += 1
                live += 1

    def _do_something(self, state: dict[str, Any]) -> None:
        """A random user operation; nothing if no download allows one."""
        rows = state["rows"]
        live = [row for row in rows if row[2] in ("queued", "downloading", "finalizing")]
        by_verb = {
            "cancel": live,
            "cancel and back": live,
            "pause": live,
            "resume": [row for row in rows if row[2] == "paused"],
            "move": [row for row in rows if row[2] in ("queued", "paused")],
            "retry": [row for row in rows if row[2] == "failed"],  # including those that must fail again
        }
        verb = self._chance.choices(
            ("nothing", "cancel", "cancel and back", "pause", "resume", "move", "retry", "limit", "bandwidth"),
            (20, 1, 4, 6, 12, 8, 30, 2, 4),
        )[0]
        if verb == "limit":
            self._act("set_max_queue_size", self._chance.randint(1, 60))
        elif verb == "bandwidth":
            self._act("set_bandwidth_limit", self._chance.choice((None, None, 4_000_000, 20_000_000)))
        elif rows := by_verb.get(verb, []):
            self._do(verb, self._chance.choice(rows))

    def _do(self, verb: str, row: list[Any]) -> None:
        match verb:
            case "cancel" if self._act("cancel_download", row[0]) == "":
                self._wishes[row[1]].is_cancelled = True
            case "cancel and back" if self._act("cancel_download", row[0]) == "":
                self._tell(f"ask({row[1]!r})")
            case "pause" | "resume" | "retry":
                self._act(verb, row[0])
            case "move":
                self._act("reorder_queue", row[0], self._chance.randint(1, 12))

    def _note(self, state: dict[str, Any]) -> None:
        if state["engine"] is not None:
            self._engine_pids.add(state["engine"])
        for row in state["rows"]:
            wish = self._wishes.get(row[1])
            if wish is not None:
                wish.is_over = row[2] == "completed" or self._is_doomed_right(row)

    def _is_doomed_right(self, row: list[Any]) -> bool:
        wish = self._wishes.get(row[1])
        return wish is not None and bool(wish.doom) and row[2] == "failed" and row[3] == wish.doom

    def _has_killed_engine(self) -> bool:
        pid = self._state()["engine"]
        if pid is None or not is_running(pid):
            return False
        psutil.Process(pid).kill()
        self.tally.engine_kills += 1
        return True

    def _make_up_for_missed_kills(self) -> None:
        """Kills that were due while nothing ran, or too late for a slow machine."""
        for _ in range(len(self._kernel_kills)):
            self._kill_kernel()
        for _ in range(len(self._engine_kills)):
            self._tell('manager.sync.download("demo/last")')
            wait_until(self._has_killed_engine, 60, "an engine to kill")

    def _kill_kernel(self) -> None:
        engine = self._state()["engine"]
        self._kernel.kill()
        self._kernel.shut_down()
        self.tally.kernel_kills += 1
        if engine is not None:
            wait_until(lambda: not is_running(engine), 60, "the end of a killed kernel's engine")
        self._kernel = self._started_kernel()

    def _settle(self) -> None:
        """Remove limits and pauses, queue the rest, and wait."""
        self._act("set_max_queue_size", 300)
        self._act("set_bandwidth_limit", None)
        deadline_s = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline_s:
            state = self._state()
            self._note(state)
            self._keep_queue_filled(state, 1.0)
            for row in state["rows"]:
                if row[2] == "paused":
                    self._act("resume", row[0])
                elif row[2] == "failed" and not self._is_doomed_right(row):
                    self._act("retry", row[0])
            busy = any(row[2] in ("queued", "downloading", "finalizing", "registering") for row in state["rows"])
            if (
                not busy
                and not state["waiting"]
                and all(one.is_over or one.is_cancelled for one in self._wishes.values())
            ):
                return
            time.sleep(0.3)  # another process cannot be awaited
        raise ReckoningError(f"not settled within {SETTLE_S} s: {self._unsettled(state)}")

    # Checks ----------------------------------------------------------------------------------------------------------

    def _reckon(self) -> None:
        state = self._state()
        by_repo = {row[1]: row for row in state["rows"]}
        for wish in self._wishes.values():
            row = by_repo.get(wish.repo_id)
            self._check_files(wish, is_whole=row is not None and row[2] == "completed")
            outcome = "cancelled" if wish.is_cancelled else f"failed: {wish.doom}" if wish.doom else "completed"
            self.tally.outcomes[outcome] += 1
        leases = [path for path in self._kernel.models.rglob("*.part.lease*") if not self._is_of_a_killed_engine(path)]
        _demand(not leases, f"leases are left: {leases}")
        self._hub.faults.clear()
        self._tell('manager.sync.download("demo/last")')  # the engine killed last has been restarted
        self._check_engine(self._state()["engine"])

    def _is_of_a_killed_engine(self, lease: Path) -> bool:
        """Whether `kill -9` left it from a download cancelled before another engine opened that file."""
        repo_id = "/".join(lease.relative_to(self._kernel.models).parts[:2])
        state = read_lease(lease)
        return self._wishes[repo_id].is_cancelled and state is not None and state.process.is_gone()

    def _check_files(self, wish: Wish, *, is_whole: bool) -> None:
        commit = wish.repository.commit()
        assert commit is not None
        for name, file in commit.files.items():
            path = self._kernel.models / wish.repo_id / name
            if path.is_file():
                _demand(_sha256(path) == file.content.sha256, f"{path} is wrong")
            else:
                _demand(not is_whole, f"{path} is missing")
        if not (wish.doom or wish.is_cancelled):
            whole = all((self._kernel.models / wish.repo_id / name).is_file() for name in commit.files)
            _demand(whole, f"{wish.repo_id} is not whole")

    def _check_engine(self, pid: int | None) -> None:
        _demand(pid is not None, "the engine has stopped")
        assert pid is not None
        deadline_s = time.monotonic() + 10
        while (now := _footprint(pid)) != self._at_rest and time.monotonic() < deadline_s:
            time.sleep(0.1)
        _demand(now == self._at_rest, f"threads and files of the engine: {now}, at rest {self._at_rest}")
        self.tally.engine_rss_bytes = rss_bytes = psutil.Process(pid).memory_info().rss
        self.tally.engine_peak_rss_bytes = _peak_rss_bytes(pid)
        kept_bytes = rss_bytes - self._rss_at_rest_bytes
        _demand(kept_bytes < KEPT_BYTES, f"the idle engine holds {kept_bytes / 1e6:.0f} MB more than at first")

    def _reckon_after_the_end(self) -> None:
        left = [pid for pid in self._engine_pids if _is_still_there(pid)]
        _demand(not left, f"engines are left: {left}")

    def _unsettled(self, state: dict[str, Any]) -> list[str]:
        rows = {row[1]: row for row in state["rows"]}
        return [
            f"{one.repo_id}: {rows.get(one.repo_id)} refused {state['refused'].get(one.repo_id)}"
            for one in self._wishes.values()
            if not (one.is_over or one.is_cancelled)
        ]

    # The kernel --------------------------------------------------------------------------------------------------

    def _started_kernel(self) -> Kernel:
        kernel = Kernel(self._folder, self._hub.url, {"GGLIB_MAX_CONCURRENT": "4", "GGLIB_MAX_QUEUE_SIZE": "60"})
        cell = kernel.run(SETUP)
        assert cell.status == "ok", cell.text
        return kernel

    def _footprint_after_one_download(self) -> tuple[int, int]:
        self._tell('manager.sync.download("demo/first")')
        pid = self._state()["engine"]
        time.sleep(0.5)  # the threads of the download end
        self._rss_at_rest_bytes = psutil.Process(pid).memory_info().rss
        return _footprint(pid)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._kernel.value("state()"))
        return state

    def _act(self, verb: str, *arguments: Any) -> str:
        self.tally.acts[verb] += 1
        return self._kernel.value(f"act({', '.join(map(repr, (verb, *arguments)))})")

    def _tell(self, code: str) -> None:
        cell = self._kernel.run(code)
        assert cell.status == "ok", cell.text


def wishes(seed: int, count: int) -> Iterator[Wish]:
    """Repositories of one model in 1 to 12 shards, one in twelve of them doomed."""
    chance = random.Random(f"wishes {seed}")
    for number in range(count):
        shards = chance.choice((1, 1, 1, 2, 3, 4, 6, 8, 12))
        names = (
            ["model-Q4_K_M.gguf"]
            if shards == 1
            else [f"model-Q4_K_M-{shard:05}-of-{shards:05}.gguf" for shard in range(1, shards + 1)]
        )
        largest = 4_000_000 if shards == 1 else 1_500_000
        files = {name: chance.randint(100_000, largest) for name in names}
        doom = chance.choice(DOOMS)[1] if chance.random() < 1 / 12 else ""
        yield Wish(make_repository(f"demo/model-{number:03}", files), doom)


def _footprint(pid: int) -> tuple[int, int]:
    """Threads, and descriptors that are not sockets: connections to the hub are kept for the next request."""
    files = 0
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            files += not str(one.readlink()).startswith("socket:")
    return psutil.Process(pid).num_threads(), files


def _peak_rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _is_still_there(pid: int) -> bool:
    with suppress(TimeoutError):
        wait_until(lambda: not is_running(pid), 60, "an engine's end")
        return False
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _demand(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise ReckoningError(otherwise)


def report(run: EnduranceRun, seed: int) -> str:
    """The counts, as lines."""
    tally = run.tally
    sent = run._hub.bytes_sent()  # its own module
    wanted = sum(
        file.size_bytes
        for wish in run._wishes.values()
        if not (wish.doom or wish.is_cancelled)
        for file in wish.repository.commit().files.values()  # type: ignore[union-attr]
    )
    return "\n".join(
        [
            f"seed {seed}: {sum(tally.outcomes.values())} downloads in {tally.seconds:.0f} s",
            f"ended: {dict(tally.outcomes)}",
            f"faults: {sum(run.chaos.struck.values())} {dict(run.chaos.struck.most_common())}",
            f"operations: {sum(tally.acts.values())} {dict(tally.acts.most_common())}",
            f"kills: {tally.kernel_kills} of the kernel, {tally.engine_kills} of the engine",
            f"bytes: {sent / 1e6:.0f} MB sent by the storage for {wanted / 1e6:.0f} MB of completed files",
            f"engine at the end: {tally.engine_rss_bytes / 1e6:.0f} MB resident, {tally.engine_peak_rss_bytes / 1e6:.0f} MB at its peak",
        ]
    )


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance.run", description="An endurance run.")
    parser.add_argument("--seed", type=int, default=None, help="which faults; by chance if left out")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="gglib-nb-endurance-") as folder:
        run = EnduranceRun(Path(folder), seed, options.minutes, KERNEL_KILLS, ENGINE_KILLS)
        try:
            run.go()
        except ReckoningError as error:
            print(f"seed {seed} failed: {error}", file=sys.stderr)
            return 1
        print(report(run, seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
