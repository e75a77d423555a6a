"""How many connections a line gets, played against made-up lines second by second."""

from collections.abc import Callable

import pytest

from gglib_nb.engine.pacing import Adaptation, Replacement, Speed

MB = 1_000_000


def play(line: Callable[[float, int], float], seconds: float, adaptation: Adaptation | None = None, began_s: float = 0):
    """Let an adaptation run on a line that gives `line(time, connections)` bytes per second; returns it and each count."""
    adaptation = adaptation or Adaptation()
    received, counts = 0.0, []
    for tick in range(round(seconds * 10)):
        now_s = began_s + tick / 10
        received += line(now_s, adaptation.wanted) / 10
        adaptation.observe(now_s, round(received), adaptation.wanted, is_limited=False)
        counts.append(adaptation.wanted)
    return adaptation, counts


def test_where_each_connection_has_its_own_rate_all_sixteen_are_used_within_two_seconds() -> None:
    _, counts = play(lambda _, connections: connections * 20 * MB, 2)

    assert counts[0] == 4
    assert counts[-1] == 16


def test_where_four_fill_the_line_four_remain_most_of_the_time() -> None:
    _, counts = play(lambda _, _connections: 100 * MB, 60)

    assert counts[-1] == 4
    assert counts.count(4) / len(counts) > 0.9


@pytest.mark.parametrize(("files", "connections"), [(1, 4), (4, 4), (12, 12), (50, 16)])
def test_a_sharded_model_begins_with_a_connection_for_each_shard_up_to_the_most(files, connections) -> None:
    assert Adaptation(files).wanted == connections


def test_connections_that_bring_a_tenth_more_are_not_worth_twice_as_many() -> None:
    _, counts = play(lambda _, connections: 100 * MB if connections <= 4 else 112 * MB, 60)

    assert counts[-1] == 4
    assert 16 not in counts


def test_where_eight_fill_the_line_eight_remain() -> None:
    _, counts = play(lambda _, connections: min(connections, 8) * 10 * MB, 30)

    assert counts[-1] == 8


def test_a_burst_at_the_beginning_does_not_hide_what_more_connections_bring() -> None:
    _, counts = play(lambda now_s, connections: 900 * MB if now_s < 1 else connections * 20 * MB, 6)

    assert counts[-1] == 16


def test_a_line_that_grows_faster_later_is_found_by_a_probe() -> None:
    adaptation, _ = play(lambda _, _connections: 50 * MB, 20)

    _, counts = play(lambda _, connections: connections * 20 * MB, 40, adaptation, began_s=20)

    assert counts[-1] == 16


def test_a_bandwidth_limit_keeps_it_at_the_fewest() -> None:
    adaptation, _ = play(lambda _, connections: connections * 20 * MB, 3)

    adaptation.observe(4.0, 10**9, 16, is_limited=True)

    assert adaptation.wanted == 4


def test_nothing_is_judged_before_all_connections_flow() -> None:
    adaptation = Adaptation()

    for tick in range(100):
        adaptation.observe(tick / 10, tick * MB, flowing=3, is_limited=False)

    assert adaptation.wanted == 4


def test_a_server_that_wants_fewer_gets_fewer_for_a_while() -> None:
    adaptation, _ = play(lambda _, connections: connections * 20 * MB, 3)

    adaptation.refused(3.0, flowing=6)
    _, counts = play(lambda _, connections: connections * 20 * MB, 20, adaptation, began_s=3)

    assert set(counts) == {6}


def paces(*rates: float, flowing_s: float = 2) -> list[Speed]:
    return [Speed(flowing_s, rate * MB) for rate in rates]


def test_a_connection_far_below_the_best_is_dropped_and_the_worst_first() -> None:
    assert Replacement(0).slow_one(1, paces(69, 9, 8, 69)) == 2


def test_connections_that_are_nearly_equal_are_left_in_peace() -> None:
    assert Replacement(0).slow_one(1, paces(69, 30, 40, 69)) is None


def test_a_connection_is_not_judged_in_its_first_moments() -> None:
    assert Replacement(0).slow_one(1, [Speed(2, 69 * MB), Speed(0.5, 1 * MB)]) is None


def test_replacements_have_a_budget_that_grows_slowly() -> None:
    replacement = Replacement(0)

    drops = [replacement.slow_one(1 + tick / 10, paces(69, 8)) for tick in range(100)]

    assert drops[:16] == [1] * 16
    assert 16 <= sum(one is not None for one in drops) <= 21


@pytest.mark.parametrize("rates", [(8, 8, 8), (69, 69, 69)])
def test_now_and_then_the_slowest_is_drawn_anew_though_all_are_alike(rates) -> None:
    replacement = Replacement(0)

    probes = [replacement.probe(tick / 10, paces(*rates)) for tick in range(100)]

    assert sum(one is not None for one in probes) == 2
