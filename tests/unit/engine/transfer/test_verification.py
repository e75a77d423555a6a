"""What arrived is compared with the hub's digests, part by part; what is wrong comes once more and not twice."""

import pytest

from gglib_nb.engine.transfer.mailbox import Mailbox
from gglib_nb.engine.transfer.verification import verify_parts
from gglib_nb.errors import IntegrityError, StorageError
from tests.support.targets import a_target, fetched, write

PIECES = (b"first piece", b"second piece")


class Fetching:
    """One target whose bytes arrive by hand."""

    def __init__(self, folder, pieces=PIECES, **options) -> None:
        self.target = a_target(folder, pieces, **options)
        self.mailbox = Mailbox()
        self.partial = fetched(self.target, self.mailbox)
        self.refetched = []

    def arrive(self, offset, data, parts) -> None:
        write(self.target, offset, data)
        while len(self.partial.hasher.digest.digests) < parts:
            self.mailbox.take(5, lambda: False)

    def verify(self) -> bool:
        return verify_parts(self.target, self._refetch)

    def _refetch(self, target, part) -> None:
        self.refetched.append(part.planned.path_in_repo)
        target.forget_part(target.parts.index(part))


@pytest.fixture
def fetching(tmp_path):
    fetching = Fetching(tmp_path)
    yield fetching
    fetching.partial.close(is_ours=True)


def test_nothing_is_proven_before_its_bytes_are_there(fetching) -> None:
    assert not fetching.verify()
    assert fetching.target.proven_parts == 0


def test_parts_are_proven_one_by_one_and_the_last_one_ends_it(fetching) -> None:
    fetching.arrive(0, PIECES[0], parts=1)
    first = fetching.verify()
    fetching.arrive(len(PIECES[0]), PIECES[1], parts=2)

    assert (first, fetching.verify()) == (False, True)
    assert fetching.refetched == []


def test_a_wrong_part_is_fetched_again_and_resolved_again(fetching) -> None:
    fetching.arrive(0, b"wrong piece", parts=1)

    assert not fetching.verify()
    assert fetching.refetched == ["part0.gguf"]
    assert (fetching.target.parts[0].is_refetched, fetching.target.parts[0].remote) == (True, None)
    assert fetching.target.missing_bytes == sum(map(len, PIECES))


def test_a_part_that_comes_right_the_second_time_is_proven(fetching) -> None:
    fetching.arrive(0, b"wrong piece", parts=1)
    fetching.verify()
    fetching.arrive(0, PIECES[0], parts=1)

    assert not fetching.verify()
    assert fetching.target.proven_parts == 1


def test_a_part_that_is_wrong_twice_is_an_error_with_both_digests(fetching) -> None:
    fetching.arrive(0, b"wrong piece", parts=1)
    fetching.verify()
    fetching.arrive(0, b"WRONG PIECE", parts=1)

    with pytest.raises(IntegrityError, match="arrived twice") as caught:
        fetching.verify()

    assert caught.value.expected == fetching.target.parts[0].sha256
    assert caught.value.actual != caught.value.expected
    assert fetching.target.missing_bytes == sum(map(len, PIECES))


def test_where_the_hub_states_no_digest_any_bytes_will_do(tmp_path) -> None:
    fetching = Fetching(tmp_path, [b"whatever"], with_digests=False)
    fetching.arrive(0, b"anything", parts=1)

    assert fetching.verify()
    fetching.partial.close(is_ours=True)


def test_a_partial_file_that_cannot_be_read_ends_the_attempt(fetching) -> None:
    fetching.partial.hasher.error = OSError(5, "Input/output error")

    with pytest.raises(StorageError, match="Input/output error"):
        fetching.verify()
