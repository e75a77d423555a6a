"""Shares of the connections are fair, and permits stay within the bound."""

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.engine.transfer.connection_budget import ConnectionBudget, fair_shares


@given(st.dictionaries(st.integers(1, 9), st.integers(0, 20), min_size=1), st.integers(0, 40))
def test_shares_are_max_min_fair(wants, total) -> None:
    shares = fair_shares(wants, total)

    assert sum(shares.values()) == min(total, sum(wants.values()))
    assert all(0 <= shares[one] <= want for one, want in wants.items())
    unserved = [shares[one] for one, want in wants.items() if shares[one] < want]
    assert all(share <= min(unserved) + 1 for share in shares.values() if unserved)


def test_permits_never_exceed_the_bound() -> None:
    budget = ConnectionBudget(3)

    assert [budget.acquire(attempt) for attempt in (1, 2, 1, 2)] == [True, True, True, False]

    budget.release(1)
    assert budget.acquire(2)


def test_what_an_ended_attempt_held_is_free_again() -> None:
    budget = ConnectionBudget(2)
    budget.share(1, 2)
    budget.acquire(1)

    budget.remove(1)

    assert budget.share(2, 2) == 2
