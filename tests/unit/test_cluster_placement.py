"""How limits are shared between hosts: the rule itself, with plain values."""

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.cluster.dispatcher import shares_of


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
