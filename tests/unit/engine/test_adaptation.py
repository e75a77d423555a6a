"""How many connections a line gets, simulated with fake lines second by second."""

from collections.abc import Callable

import pytest

from gglib_nb.engine.pacing import REFUSED_HOLD_S, Adaptation, Replacement

MB = 1_000_000


def play(line: Callable[[float, int], float], seconds: float, adaptation: Adaptation | None = None, began_s: float = 0):
    """Run an adaptation on a line of `line(time, connections)` bytes per second; returns it and each count."""
    adaptation = adaptation or Adaptation()
    received, counts = 0.0, []
    for tick in range(round(seconds * 10)):
        now_s = began_s + tick / 10
        received += line(now_s, adaptation.wanted) / 10
        adaptation.observe(now_s, round(received), adaptation.wanted, is_limited=False)
        counts.append(adaptation.wanted)
    return adaptation, counts


def test_with_a_rate_per_connection_all_sixteen_are_used_within_two_seconds() -> None:
    _, counts = play(lambda _, connections: connections * 20 * MB, 2)

    assert counts[0] == 4
    assert counts[-1] == 16


def test_if_four_connections_fill_the_line_four_are_used_most_of_the_time() -> None:
    _, counts = play(lambda _, _connections: 100 * MB, 60)

    assert counts[-1] == 4
    assert counts.count(4) / len(counts) > 0.9


@pytest.mark.parametrize(("files", "connections"), [(1, 4), (4, 4), (12, 12), (50, 16)])
def test_a_sharded_model_starts_with_one_connection_per_shard_up_to_the_limit(files, connections) -> None:
    assert Adaptation(files).wanted == connections


def test_a_gain_of_a_tenth_does_not_justify_twice_the_connections() -> None:
    _, counts = play(lambda _, connections: 100 * MB if connections <= 4 else 112 * MB, 60)

    assert counts[-1] == 4
    assert 16 not in counts


def test_if_eight_connections_fill_the_line_eight_are_used() -> None:
    _, counts = play(lambda _, connections: min(connections, 8) * 10 * MB, 30)

    assert counts[-1] == 8


def test_an_initial_burst_does_not_hide_the_gain_of_more_connections() -> None:
    _, counts = play(lambda now_s, connections: 900 * MB if now_s < 1 else connections * 20 * MB, 6)

    assert counts[-1] == 16


def test_a_later_increase_in_speed_is_found_by_a_probe() -> None:
    adaptation, _ = play(lambda _, _connections: 50 * MB, 20)

    _, counts = play(lambda _, connections: connections * 20 * MB, 40, adaptation, began_s=20)

    assert counts[-1] == 16


def test_a_bandwidth_limit_keeps_the_number_of_connections_at_the_minimum() -> None:
    adaptation, _ = play(lambda _, connections: connections * 20 * MB, 3)

    adaptation.observe(4.0, 10**9, 16, is_limited=True)

    assert adaptation.wanted == 4


def test_a_bandwidth_limit_asks_a_server_for_no_connections_that_it_has_just_refused() -> None:
    adaptation = Adaptation()
    adaptation.hold(2, 0.0, REFUSED_HOLD_S)

    adaptation.observe(0.1, 0, 2, is_limited=True)
    during = adaptation.wanted
    adaptation.observe(REFUSED_HOLD_S, 0, 2, is_limited=True)

    assert (during, adaptation.wanted) == (2, 4)


def test_rates_are_not_compared_before_all_connections_receive_data() -> None:
    adaptation = Adaptation()

    for tick in range(100):
        adaptation.observe(tick / 10, tick * MB, flowing=3, is_limited=False)

    assert adaptation.wanted == 4


def test_a_server_that_requests_fewer_connections_gets_fewer_for_a_while() -> None:
    adaptation, _ = play(lambda _, connections: connections * 20 * MB, 3)

    adaptation.hold(6, 3.0, REFUSED_HOLD_S)
    _, counts = play(lambda _, connections: connections * 20 * MB, 20, adaptation, began_s=3)

    assert set(counts) == {6}


def paces(*rates: float | None) -> dict[int, float | None]:
    return {number: None if rate is None else rate * MB for number, rate in enumerate(rates)}


def test_connections_far_slower_than_the_best_are_dropped_worst_first() -> None:
    assert Replacement(0).choose(1, paces(69, 9, 8, 69)) == (2, True)


def test_connections_with_similar_rates_are_kept() -> None:
    assert Replacement(0).choose(1, paces(69, 30, 40, 69)) is None


def test_a_new_connection_is_not_compared_yet() -> None:
    assert Replacement(0).choose(1, paces(69, None)) is None


def test_replacements_have_a_slowly_growing_budget() -> None:
    replacement = Replacement(0)

    drops = [replacement.choose(1 + tick / 10, paces(69, 8)) for tick in range(100)]

    assert drops[:16] == [(1, True)] * 16
    assert 16 <= sum(one is not None for one in drops) <= 21


@pytest.mark.parametrize("rates", [(8, 8, 8), (69, 69, 69)])
def test_the_slowest_connection_is_occasionally_replaced_even_if_all_are_alike(rates) -> None:
    replacement = Replacement(0)

    probes = [replacement.choose(tick / 10, paces(*rates)) for tick in range(100)]

    assert [one[1] for one in probes if one is not None] == [False, False]
