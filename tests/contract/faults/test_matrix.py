"""The fault matrix, row by row: each fault is made on a real hub, line, disk or process, and its rules are checked."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from gglib_nb.engine.disk import journal_path
from gglib_nb.engine.journal import Journal
from gglib_nb.engine.timeouts import TIMEOUTS_VARIABLE, Timeouts
from tests.contract.faults.matrix import GROUPS
from tests.contract.faults.page import PAGE, page
from tests.contract.faults.row import Fails, Heals, Lift, OnLine, Proved, Refused, Row, line_pattern
from tests.contract.faults.world import IMPATIENT, PATIENT, SHORT, Subject, World
from tests.support.certificates import Company

ROOT = Path(__file__).resolve().parents[3]
ROWS = [row for rows in GROUPS.values() for row in rows]
MADE_HERE = [row for row in ROWS if not isinstance(row.ends, Proved)]
PROVED_ELSEWHERE = [row for row in ROWS if isinstance(row.ends, Proved)]


# One of each kind in each group is enough for normal runs; `.ci/run` makes them all.
FAST = {
    next(row.slug for row in rows if type(row.ends) is kind)
    for rows in GROUPS.values()
    for kind in {type(row.ends) for row in rows}
}


def params(rows: list[Row]) -> list:
    is_slow = {row.slug: row.is_slow or not (row.slug in FAST or isinstance(row.ends, Proved)) for row in rows}
    return [pytest.param(row, id=row.slug, marks=[pytest.mark.slow] if is_slow[row.slug] else []) for row in rows]


def patience_of(ends: Fails | Heals | Refused) -> Timeouts:
    """The engine's waiting times for rows with this outcome."""
    if not isinstance(ends, Fails):
        return SHORT
    return IMPATIENT if ends.can_retry and ends.asks is None else PATIENT


class Worlds:
    """The worlds that rows share, one for each patience; created again after a failed row."""

    def __init__(self, folder: Path, set_variable) -> None:
        self._folder = folder
        self._set_variable = set_variable
        self._companies = [Company(new_folder(folder / name)) for name in ("company", "other-company")]
        set_variable("SSL_CERT_FILE", str(self._companies[0].bundle))
        self._worlds: dict[Timeouts, World] = {}
        self._made = 0

    def sound(self, timeouts: Timeouts) -> World:
        # Again for each row, because an engine may be killed and started again.
        self._set_variable(TIMEOUTS_VARIABLE, json.dumps(asdict(timeouts)))
        if timeouts not in self._worlds:
            self._made += 1
            self._worlds[timeouts] = World(new_folder(self._folder / f"world-{self._made}"), *self._companies)
        return self._worlds[timeouts]

    def drop(self) -> None:
        while self._worlds:
            self._worlds.popitem()[1].close()


def new_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Iterator[Worlds]:
    with pytest.MonkeyPatch.context() as patch:
        worlds = Worlds(tmp_path_factory.mktemp("faults"), patch.setenv)
        yield worlds
        worlds.drop()


@pytest.mark.parametrize("row", params(MADE_HERE))
def test_every_fault_ends_as_the_matrix_says(row: Row, worlds: Worlds) -> None:
    world = worlds.sound(patience_of(row.ends))
    try:
        run(row, world)
    except BaseException:
        worlds.drop()
        raise


def run(row: Row, world: World) -> None:
    subject = world.subject(dict(row.files))
    match row.ends:
        case Heals():
            check_it_heals(row, row.ends, world, subject)
        case Fails():
            check_it_fails(row, row.ends, world, subject)
        case Refused():
            check_it_is_refused(row, row.ends, world, subject)
    world.check_files(subject)
    assert world.manager.sync.wait(subject.next_id).is_verified, "the queue did not go on"
    if row.look is not None:
        row.look(world, subject)
    world.restore()
    world.check_no_leak()


def begin(row: Row, world: World, subject: Subject) -> list[Lift]:
    """Queue both downloads and make the fault at its moment; returns a function that ends it."""
    if row.after_bytes is None:
        lifts = [made.place(world, subject) for made in row.made]
        world.queue(subject)
        return lifts
    world.hub.set_speed(bytes_per_second=2_000_000)
    world.queue(subject)
    world.wait_for_bytes(subject, row.after_bytes)
    world.mark(subject)
    lifts = [made.place(world, subject) for made in row.made]
    world.hub.set_speed()
    return lifts


def lift_all(lifts: list[Lift]) -> None:
    while lifts:
        lifts.pop()()


def pattern(world: World, subject: Subject, line: str) -> str:
    first = next(iter(subject.files))
    return line_pattern(
        line,
        hub=world.hub_line.url,
        host=world.hub_line.url.partition("//")[2],
        storage=world.cdn_line.url.partition("//")[2],
        repo=subject.repo_id,
        file=first,
        target=world.target(subject, first),
        folder=world.target(subject, first).parent,
        commit=world.commit_of(subject),
    )


def check_it_heals(row: Row, ends: Heals, world: World, subject: Subject) -> None:
    lifts = begin(row, world, subject)
    if ends.line is not None:
        world.wait_for_notice(subject, pattern(world, subject, ends.line))
        lift_all(lifts)
    world.manager.sync.wait(subject.id)
    lift_all(lifts)
    if not ends.begins_anew:
        kept = ends.kept_bytes or row.after_bytes or 0
        assert all(start >= kept for start in world.later_starts(subject)), "verified bytes were fetched again"


def check_it_fails(row: Row, ends: Fails, world: World, subject: Subject) -> None:
    lifts = begin(row, world, subject)
    there = world.present(subject)
    with pytest.raises(ends.error) as caught:
        world.manager.sync.wait(subject.id)

    assert type(caught.value) is ends.error
    check_line(pattern(world, subject, ends.line), str(caught.value))
    failed = world.failure(subject.repo_id)
    assert failed.can_retry == ends.can_retry
    assert failed.ended_at_s is not None
    assert ends.asks is None or world.questions(subject) <= ends.asks, "it was requested repeatedly"
    world.check_nothing_wrong(subject, there)
    is_of_the_line = any(isinstance(made, OnLine) for made in row.made)  # which the next one also needs
    if is_of_the_line:
        lift_all(lifts)
    assert world.manager.sync.wait(subject.next_id).is_verified, "the queue did not go on"

    lift_all(lifts)

    kept, sent = kept_bytes(world, subject), world.bytes_sent(subject)
    if ends.again == "retry":
        world.manager.sync.retry(subject.id)
    else:
        world.manager.sync.queue_smart(subject.repo_id)
    assert world.manager.sync.wait(subject.id).paths
    assert world.bytes_sent(subject) - sent <= sum(row.files.values()) - kept, "verified bytes were fetched again"


def check_it_is_refused(row: Row, ends: Refused, world: World, subject: Subject) -> None:
    lifts = [made.place(world, subject) for made in row.made]
    with pytest.raises(ends.error) as caught:
        world.manager.sync.queue_smart(subject.repo_id)

    assert type(caught.value) is ends.error
    check_line(pattern(world, subject, ends.line), str(caught.value))
    lift_all(lifts)
    world.queue(subject)
    world.manager.sync.wait(subject.id)


def check_line(expected: str, actual: str) -> None:
    assert re.fullmatch(expected, actual), f"\n{actual}\nis not\n{expected}"


def kept_bytes(world: World, subject: Subject) -> int:
    """Present bytes: complete files, and bytes recorded in journals."""
    total = 0
    for name, size_bytes in subject.files.items():
        target = world.target(subject, name)
        state = Journal.read(journal_path(target))
        total += size_bytes if target.is_file() else 0 if state is None else state.pieces.present_bytes
    return total


@pytest.mark.parametrize("row", params(PROVED_ELSEWHERE))
def test_the_test_that_proves_a_row_exists(row: Row) -> None:
    assert isinstance(row.ends, Proved)
    path, _, name = row.ends.by.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert name in {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_no_behaviour_is_listed_twice() -> None:
    slugs = [row.slug for row in ROWS]

    assert sorted(slugs) == sorted(set(slugs))


def test_the_page_matches_the_matrix() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m tests.contract.faults.page"
