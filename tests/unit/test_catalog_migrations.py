"""The database's migrations: applied once, completely or not at all, and never by a version that does not know them."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gglib_nb.catalog.database import Database
from gglib_nb.catalog.migrations import MIGRATIONS, atomic, migrate
from gglib_nb.catalog.queues import KernelRecord, Queues
from gglib_nb.catalog.store import Catalog
from gglib_nb.domain.stored import StoredLimits
from gglib_nb.errors import CatalogError

CATALOGS = Path(__file__).parent / "catalogs"
FIRST = {"0001 first": ("CREATE TABLE first (a)",)}
SECOND = {"0002 second": ("CREATE TABLE second (a)", "INSERT INTO second VALUES (1)")}
BROKEN = {"0002 broken": ("CREATE TABLE second (a)", "INSERT INTO nowhere VALUES (1)")}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as connection:
        yield connection


def names(database: sqlite3.Connection, table: str = "migration") -> list[str]:
    return [name for (name,) in database.execute(f"SELECT name FROM {table} ORDER BY name")]


def test_a_new_database_gets_every_migration_and_records_it(database: sqlite3.Connection) -> None:
    migrate(database)

    assert names(database) == list(MIGRATIONS)


def test_migrations_are_not_applied_twice(database: sqlite3.Connection) -> None:
    migrate(database, FIRST | SECOND)
    migrate(database, FIRST | SECOND)

    assert database.execute("SELECT count(*) FROM second").fetchone() == (1,)


def test_an_older_database_gets_only_the_missing_migrations(database: sqlite3.Connection) -> None:
    migrate(database, FIRST)

    migrate(database, FIRST | SECOND)

    assert names(database) == ["0001 first", "0002 second"]


def test_a_failed_migration_leaves_no_tables_and_no_record(database: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(database, FIRST | BROKEN)

    assert names(database) == ["0001 first"]
    assert "second" not in names(database, "sqlite_master")


def test_a_newer_database_is_refused_and_not_changed(database: sqlite3.Connection) -> None:
    migrate(database, FIRST | SECOND)

    with pytest.raises(CatalogError, match=r"newer gglib_nb \(it has '0002 second'\); upgrade"):
        migrate(database, FIRST)
    assert names(database) == ["0001 first", "0002 second"]


def test_migration_names_are_ordered_and_unique() -> None:
    released = list(MIGRATIONS)

    assert released == sorted(set(released))


@pytest.mark.parametrize("made_by", sorted(CATALOGS.glob("*.sqlite3")), ids=lambda path: path.stem)
def test_a_database_of_every_earlier_schema_keeps_its_models_and_is_migrated(tmp_path: Path, made_by: Path) -> None:
    path = Path(shutil.copy(made_by, tmp_path / "gglib_nb.sqlite3"))

    [model] = Catalog(path).models()

    assert (str(model.id), model.commit_sha, model.registered_at_s) == ("owner/kept:Q4_K_M", "c" * 40, 1000.0)
    assert model.files[0].facts == {"architecture": "llama"}
    with closing(sqlite3.connect(path)) as connection:
        assert names(connection) == list(MIGRATIONS)


def test_a_database_file_of_every_earlier_schema_exists() -> None:
    shapes = {path.stem[:4] for path in CATALOGS.glob("*.sqlite3")}

    assert shapes == {name[:4] for name in MIGRATIONS}


@pytest.mark.parametrize("made_by", ["0002-queues", "0006-beats"])
def test_a_queue_stored_by_an_earlier_version_is_adopted(tmp_path: Path, made_by: str) -> None:
    path = Path(shutil.copy(CATALOGS / f"{made_by}.sqlite3", tmp_path / "gglib_nb.sqlite3"))
    mine = KernelRecord("mine", "", "here 0 0", 1, "", "/models", "https://hub")

    left = Queues(Database(path), mine, Path("/models")).adopt(lambda _record: True)

    assert left is not None
    assert [(str(one.plan.id), one.status.value, one.was_active) for one in left.downloads] == [
        ("owner/a:Q4_K_M", "queued", True),
        ("owner/b:Q4_K_M", "paused", False),
        ("owner/c:Q4_K_M", "failed", False),
    ]
    assert (left.limits, left.is_processing) == (StoredLimits(7), True)


def test_an_interrupted_transaction_leaves_nothing(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE t (a)")

    def insert_and_be_interrupted() -> None:
        with atomic(database):
            database.execute("INSERT INTO t VALUES (1)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        insert_and_be_interrupted()
    assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
