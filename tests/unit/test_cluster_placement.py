"""How a host is chosen for a download, and how limits are shared: the rule itself, with plain values."""

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.cluster.dispatcher import HostLoad, choose_host, shares_of, spread

GB = 10**9


def load(host, *, running=0, to_go=0, free=100 * GB, has_part=False):
    return HostLoad(host, running, to_go, free, has_part)


def test_the_host_with_the_fewest_remaining_bytes_takes_a_download():
    loads = [load("a", running=1, to_go=5 * GB), load("b", running=1, to_go=2 * GB), load("c", running=1, to_go=9 * GB)]

    assert choose_host(loads, 2, GB) == "b"


def test_a_host_without_a_free_slot_takes_nothing():
    assert choose_host([load("a", running=1), load("b", running=1, to_go=GB)], 1, GB) is None
    assert choose_host([], 1, GB) is None


def test_hosts_with_enough_disk_space_come_first():
    loads = [load("a", free=GB), load("b", running=1, to_go=50 * GB), load("c", free=None, running=1, to_go=60 * GB)]

    assert choose_host(loads, 2, 10 * GB) == "b"
    assert choose_host(loads[:1], 2, 10 * GB) == "a"


def test_a_host_with_the_partial_file_resumes_it():
    assert choose_host([load("a"), load("b", has_part=True, to_go=GB)], 2, GB) == "b"


def test_a_tie_goes_to_the_first_host_by_name():
    assert choose_host([load("c"), load("a"), load("b")], 1, GB) == "a"


def test_a_limit_is_shared_in_proportion_to_running_downloads():
    assert shares_of(9_000_000, {"a": 2, "b": 1, "c": 0}) == {"a": 6_000_000, "b": 3_000_000}


@given(st.integers(1, 10**9), st.dictionaries(st.text("abcdef", min_size=1), st.integers(0, 5), max_size=6))
def test_shares_add_up_to_the_limit_unless_it_is_smaller_than_their_number(limit, running):
    shares = shares_of(limit, running)

    busy = {host for host, count in running.items() if count}
    assert set(shares) == busy
    assert all(share >= 1 for share in shares.values())
    if busy and limit >= sum(running.values()):
        assert sum(shares.values()) == limit


def test_one_host_per_folder_downloads_its_copy():
    folders = {"b": "one", "a": "one", "c": "two", "d": "three"}

    assert spread(folders, ()) == ["a", "c", "d"]
    assert spread(folders, {"two"}) == ["a", "d"]
