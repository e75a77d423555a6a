"""A file is taken as known only if it was verified with the digests that the hub states now."""

from pathlib import Path

import pytest

from gglib_nb import DownloadManager, StorageError
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.pieces import cut, gguf_bytes

REPO = "demo/known-GGUF"
PARTS = [f"m.Q8_0.gguf.part{number}of3" for number in (1, 2, 3)]


def test_an_imported_file_that_was_never_hashed_is_not_taken_as_verified(
    manager: DownloadManager, hub: FaultyHub
) -> None:
    """Another downloader's note beside a file states a digest, which the file may not have (any more)."""
    hub.add_repository(make_repository(REPO, {"m-Q8_0.gguf": gguf_bytes()}))
    commit = hub.repositories[REPO].commit()
    assert commit is not None
    target = manager.config.models_directory / REPO / "m-Q8_0.gguf"
    note = target.parent / ".cache" / "huggingface" / "download" / "m-Q8_0.gguf.metadata"
    note.parent.mkdir(parents=True)
    target.write_bytes(gguf_bytes()[:-100] + bytes(100))
    note.write_text(f"{commit.sha}\n{commit.files['m-Q8_0.gguf'].content.sha256}\n1700000000.0\n")
    report = manager.sync.import_folder(manager.config.models_directory)
    assert [row.repo_id for row in report.imported] == [REPO]

    with pytest.raises(StorageError, match="Another file is stored at"):
        manager.sync.download(REPO, "Q8_0")


def test_a_joined_file_of_another_commit_is_not_taken_as_known(manager: DownloadManager, hub: FaultyHub) -> None:
    whole = gguf_bytes()
    hub.add_repository(make_repository(REPO, cut(whole, PARTS)))
    path = manager.sync.download(REPO, "Q8_0")
    hub.add_repository(make_repository(REPO, cut(whole[:-100] + bytes(100), PARTS)))

    with pytest.raises(StorageError, match="Another file is stored at"):
        manager.sync.download(REPO, "Q8_0")

    assert Path(path).read_bytes() == whole


def test_a_joined_file_of_the_same_commit_is_not_hashed_again(manager: DownloadManager, hub: FaultyHub) -> None:
    hub.add_repository(make_repository(REPO, cut(gguf_bytes(), PARTS)))
    first = manager.sync.download(REPO, "Q8_0")
    asked = len(hub.requests)

    assert manager.sync.download(REPO, "Q8_0") == first
    assert not [one for one in hub.requests[asked:] if one.origin == "cdn"]
