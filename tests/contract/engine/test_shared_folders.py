"""Files of another user in a shared models folder, which may be replaced but not written, and perhaps not read."""

from pathlib import Path

import pytest

from gglib_nb.domain.reports import TransferFailed, TransferFinished
from gglib_nb.engine.disk import part_path
from tests.support.engine import EngineProcess, LocalEngine
from tests.support.rights import as_ordinary_user
from tests.support.transfers import NAME, REPO, SIZE, begin_slowly, digest_of, right_digest


@pytest.fixture
def ordinary(hub, tmp_path: Path):
    process = EngineProcess(hub, tmp_path / "models", tmp_path)
    as_ordinary_user(process.client.start)
    yield process
    process.close()


@pytest.mark.parametrize(("mode", "most_bytes"), [(0o444, SIZE * 0.6), (0o000, SIZE)])
def test_a_partial_file_of_another_user_is_continued_as_a_copy_if_it_can_be_read(
    hub, ordinary, mode: int, most_bytes: float
) -> None:
    theirs = LocalEngine(hub, ordinary.folder)
    theirs.stop(begin_slowly(theirs, downloaded_bytes=SIZE // 2))
    theirs.close()
    hub.set_speed()
    target = ordinary.target(REPO, NAME)
    part_path(target).chmod(mode)

    attempt = ordinary.begin(REPO, NAME)

    assert isinstance(ordinary.log.end_of(attempt), TransferFinished)
    assert digest_of(target) == right_digest(hub, NAME)
    assert ordinary.log.progress_of(attempt)[-1].received_bytes <= most_bytes


@pytest.mark.parametrize("replaces", [False, True])
def test_a_file_at_the_target_that_cannot_be_read_is_reported_as_unreadable_unless_it_is_to_be_replaced(
    hub, ordinary, replaces: bool
) -> None:
    target = ordinary.target(REPO, "small.gguf")
    target.parent.mkdir(parents=True)
    target.write_bytes(bytes(200_000))
    target.chmod(0)

    end = ordinary.log.end_of(ordinary.begin(REPO, "small.gguf", replaces=replaces))

    if replaces:
        assert digest_of(target) == right_digest(hub, "small.gguf")
    else:
        assert isinstance(end, TransferFailed)
        assert f"{target} cannot be read" in str(end.error)
        assert target.stat().st_size == 200_000
