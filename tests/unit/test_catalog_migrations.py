"""The database's steps: applied once, whole or not at all, and never by a version that does not know them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gglib_nb.catalog.connection import atomic
from gglib_nb.catalog.migrations import MIGRATIONS, Migration, migrate
from gglib_nb.errors import CatalogError

FIRST = Migration("0001 first", ("CREATE TABLE first (a)",))
SECOND = Migration("0002 second", ("CREATE TABLE second (a)", "INSERT INTO second VALUES (1)"))
BROKEN = Migration("0002 broken", ("CREATE TABLE second (a)", "INSERT INTO nowhere VALUES (1)"))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as connection:
        yield connection


def names(database: sqlite3.Connection, table: str = "migration") -> list[str]:
    return [name for (name,) in database.execute(f"SELECT name FROM {table} ORDER BY name")]


def test_a_new_database_gets_every_step_and_its_record(database: sqlite3.Connection) -> None:
    migrate(database)

    assert names(database) == [migration.name for migration in MIGRATIONS]


def test_steps_that_are_there_are_not_applied_again(database: sqlite3.Connection) -> None:
    migrate(database, (FIRST, SECOND))
    migrate(database, (FIRST, SECOND))

    assert database.execute("SELECT count(*) FROM second").fetchone() == (1,)


def test_an_older_database_gets_only_what_it_lacks(database: sqlite3.Connection) -> None:
    migrate(database, (FIRST,))

    migrate(database, (FIRST, SECOND))

    assert names(database) == ["0001 first", "0002 second"]


def test_a_step_that_fails_leaves_neither_its_tables_nor_its_record(database: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(database, (FIRST, BROKEN))

    assert names(database) == ["0001 first"]
    assert "second" not in names(database, "sqlite_master")


def test_a_newer_database_is_refused_and_left_alone(database: sqlite3.Connection) -> None:
    migrate(database, (FIRST, SECOND))

    with pytest.raises(CatalogError, match=r"newer gglib_nb \(it has '0002 second'\); upgrade"):
        migrate(database, (FIRST,))
    assert names(database) == ["0001 first", "0002 second"]


def test_the_names_of_the_steps_are_in_order_and_unique() -> None:
    released = [migration.name for migration in MIGRATIONS]

    assert released == sorted(set(released))


def test_an_atomic_block_that_is_interrupted_leaves_nothing(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE t (a)")

    def insert_and_be_interrupted() -> None:
        with atomic(database):
            database.execute("INSERT INTO t VALUES (1)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        insert_and_be_interrupted()
    assert database.execute("SELECT count(*) FROM t").fetchone() == (0,)
