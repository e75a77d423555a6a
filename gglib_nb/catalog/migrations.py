"""The schema of the database, as ordered named steps. A released step is never edited.

Each runs in one transaction together with its record, so that a kill leaves it done or not begun. A change
is a new step at the end, and the tests have a file of every earlier schema (`tests/unit/catalogs`).
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from gglib_nb.errors import CatalogError

# The statements of each step by its name, which is recorded in the database.
MIGRATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "0001 models and their files": (
        # `id` only grows, so that it shows which of two rows about one file is newer.
        """CREATE TABLE model (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,  -- text form of the download's id
            repo_id TEXT NOT NULL,
            revision TEXT,              -- as asked for; NULL: the default branch
            quantization TEXT,          -- the id's tail
            commit_sha TEXT NOT NULL,
            label TEXT,
            registered_at_s REAL NOT NULL
        )""",
        """CREATE TABLE file (
            model INTEGER NOT NULL REFERENCES model ON DELETE CASCADE,
            position INTEGER NOT NULL,
            target TEXT NOT NULL,       -- absolute path
            path_in_repo TEXT NOT NULL,
            kind TEXT NOT NULL,
            size_bytes INTEGER NOT NULL,
            sha256 TEXT,
            is_verified INTEGER NOT NULL,
            verified_at_s REAL,
            mtime_ns INTEGER NOT NULL,
            facts TEXT NOT NULL,        -- JSON object of scalars
            PRIMARY KEY (model, position)
        )""",
        "CREATE INDEX file_by_target ON file (target)",
    ),
    "0002 queues and the kernels whose they are": (
        """CREATE TABLE kernel (
            owner TEXT PRIMARY KEY,     -- unique to one manager at one time
            title TEXT NOT NULL,        -- what a person calls it: its notebook's name; empty unknown
            place TEXT NOT NULL,        -- machine, boot and process namespace
            pid INTEGER NOT NULL,
            start TEXT NOT NULL,        -- tells the process from a later one with its id
            models_directory TEXT NOT NULL,
            endpoint TEXT NOT NULL,
            seen_at_s REAL NOT NULL,    -- its last sign of life
            is_released INTEGER NOT NULL,
            is_processing INTEGER NOT NULL,
            limits TEXT NOT NULL,       -- JSON object: what was set by hand
            progress TEXT NOT NULL      -- JSON array: how far its downloads are, for the others to show
        )""",
        """CREATE TABLE download (
            owner TEXT NOT NULL REFERENCES kernel ON DELETE CASCADE,
            name TEXT NOT NULL,         -- text form of its id
            position INTEGER NOT NULL,  -- orders the downloads of one kernel; what ran first, failures last
            detail TEXT NOT NULL,       -- JSON object; targets are relative to the models folder
            PRIMARY KEY (owner, name)
        )""",
    ),
    "0003 what is known of a model since": (
        "ALTER TABLE model ADD COLUMN origin TEXT NOT NULL DEFAULT 'hub'",  # hub, import, local
        "ALTER TABLE model ADD COLUMN checked_at_s REAL",  # NULL: never checked for a newer version
        "ALTER TABLE model ADD COLUMN latest_commit_sha TEXT",
        "ALTER TABLE model ADD COLUMN has_update INTEGER",
        "ALTER TABLE file ADD COLUMN wrong_ranges TEXT",  # JSON list of pairs; NULL: nothing wrong is known
        # About contents, not files: the same bytes have the same row wherever they are.
        """CREATE TABLE content_index (
            sha256 TEXT PRIMARY KEY,
            block_bytes INTEGER NOT NULL,
            digests BLOB NOT NULL       -- a short digest for each block, in order
        )""",
    ),
    "0004 hosts that have a model": (
        """CREATE TABLE model_host (
            model INTEGER NOT NULL REFERENCES model ON DELETE CASCADE,
            position INTEGER NOT NULL,
            host TEXT NOT NULL,             -- as the cluster names it
            models_directory TEXT NOT NULL, -- there
            PRIMARY KEY (model, position)
        )""",
    ),
    "0005 downloads that ended": (
        """CREATE TABLE past_download (
            repo_id TEXT NOT NULL,
            quantization TEXT NOT NULL, -- the id's tail; empty: none
            revision TEXT NOT NULL,     -- as asked for; empty: the default branch
            outcome TEXT NOT NULL,      -- completed, failed, cancelled
            total_bytes INTEGER,        -- NULL: unknown
            bytes_per_second REAL,      -- mean of the line; NULL: no byte came, or it did not complete
            started_at_s REAL,          -- NULL: it never ran
            ended_at_s REAL NOT NULL,
            was_present INTEGER NOT NULL,
            error TEXT NOT NULL,        -- one sentence; empty unless failed
            UNIQUE (repo_id, quantization, revision, ended_at_s)
        )""",
    ),
    "0006 signs of life without a clock, stored downloads by the names of their fields": (
        # A number that grows with every heartbeat of any kernel.
        "ALTER TABLE kernel RENAME COLUMN seen_at_s TO beat",
        """UPDATE kernel SET progress = '[]', limits = json_object(
            'max_size', json_extract(limits, '$.max_size'),
            'has_bandwidth_limit', json(iif(
                json_type(limits, '$.bandwidth_limit_bytes_per_second') IS NULL, 'false', 'true')),
            'bandwidth_limit_bytes_per_second', json_extract(limits, '$.bandwidth_limit_bytes_per_second'))""",
        """UPDATE download SET detail = json_object(
            'plan', json_set(
                json_remove(detail, '$.status', '$.was_active', '$.aliases', '$.queued_at_s', '$.started_at_s',
                            '$.ended_at_s', '$.error', '$.can_retry'),
                '$.id', json_object('repo_id', json_extract(detail, '$.id[0]'),
                                    'quantization', json_extract(detail, '$.id[1]'),
                                    'revision', json_extract(detail, '$.id[2]')),
                '$.files', (SELECT json_group_array(json_object(
                    'path_in_repo', json_extract(value, '$[0]'), 'size_bytes', json_extract(value, '$[1]'),
                    'sha256', json_extract(value, '$[2]'), 'target', json_extract(value, '$[3]'),
                    'offset_bytes', json_extract(value, '$[4]'), 'kind', json_extract(value, '$[5]'),
                    'known_mtime_ns', json_extract(value, '$[6]'), 'wrong_ranges', json_extract(value, '$[7]')))
                    FROM json_each(detail, '$.files'))),
            'aliases', (SELECT json_group_array(json_object('repo_id', json_extract(value, '$[0]'),
                    'quantization', json_extract(value, '$[1]'), 'revision', json_extract(value, '$[2]')))
                    FROM json_each(detail, '$.aliases')),
            'status', json_extract(detail, '$.status'),
            'was_active', json(iif(json_extract(detail, '$.was_active'), 'true', 'false')),
            'queued_at_s', json_extract(detail, '$.queued_at_s'),
            'started_at_s', json_extract(detail, '$.started_at_s'),
            'ended_at_s', json_extract(detail, '$.ended_at_s'), 'error', json_extract(detail, '$.error'),
            'can_retry', json(iif(json_extract(detail, '$.can_retry'), 'true', 'false')))
        WHERE json_valid(detail)""",
    ),
    "0007 when models were last used": (
        # By id, not a column of the model: it is kept when a model is registered again.
        "CREATE TABLE model_use (name TEXT PRIMARY KEY, used_at_s REAL NOT NULL)",
    ),
    "0008 which commands of downloads were started": (
        "CREATE TABLE started_command (name TEXT PRIMARY KEY, started_at_s REAL NOT NULL)",
    ),
    # Without pauses and waiting; NULL: unknown.
    "0009 how long downloads ran": ("ALTER TABLE past_download ADD COLUMN ran_s REAL",),
    # JSON list of paths.
    "0010 what an update still has to delete": ("ALTER TABLE model ADD COLUMN replaces TEXT NOT NULL DEFAULT '[]'",),
}


@contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction; the write lock is taken at once, so that reads in it stay valid."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself when the disk is full or fails
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def migrate(connection: sqlite3.Connection, migrations: Mapping[str, tuple[str, ...]] = MIGRATIONS) -> None:
    """Applies the missing steps; several processes may at once. A database of a newer version is a `CatalogError`."""
    applied = _applied(connection)
    if applied == migrations.keys():
        return
    if unknown := applied - migrations.keys():
        raise CatalogError(
            f"The models database was written by a newer gglib_nb (it has {min(unknown)!r}); "
            "upgrade this one, or set GGLIB_STATE_DIR to another folder."
        )
    for name, statements in migrations.items():
        with atomic(connection):
            connection.execute(_CREATE)
            # Checked again under the write lock: another process may have been faster.
            if name not in _applied(connection):
                for statement in statements:
                    connection.execute(statement)
                connection.execute("INSERT INTO migration (name) VALUES (?)", (name,))


def _applied(connection: sqlite3.Connection) -> set[str]:
    is_new = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'").fetchone() is None
    return set() if is_new else {name for (name,) in connection.execute("SELECT name FROM migration")}


_CREATE: Final = """
    CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"""
