"""Network detection: one probe at a time, less and less often during an outage, and none afterwards."""

from itertools import pairwise
from types import SimpleNamespace

import pytest

from gglib_nb.engine import retry
from gglib_nb.engine.retry import Connectivity


class Network:
    """A hub that can be reached or not, and probes that wait until the test lets them run."""

    def __init__(self) -> None:
        self.is_there = True
        self.probes = []
        self.connectivity = Connectivity(lambda: self.is_there)

    def fail_at(self, now_s: float, *, probed: bool = True) -> None:
        self.connectivity.probe(now_s)
        if probed:
            self.answer()

    def answer(self) -> None:
        while self.probes:
            self.probes.pop()()


@pytest.fixture
def network(monkeypatch) -> Network:
    network = Network()

    def thread(target, args, name, daemon) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: network.probes.append(lambda: target(*args)))

    monkeypatch.setattr(retry, "threading", SimpleNamespace(Thread=thread))
    return network


def test_a_failure_while_the_hub_answers_is_not_an_outage(network) -> None:
    network.fail_at(100.0)

    assert network.connectivity.outage is None


def test_a_failure_while_no_host_answers_starts_an_outage(network) -> None:
    network.is_there = False

    network.fail_at(100.0)

    assert network.connectivity.outage.since_s == 100.0


def test_simultaneous_failures_cause_one_probe(network) -> None:
    for _ in range(16):
        network.fail_at(100.0, probed=False)

    assert len(network.probes) == 1


def test_during_an_outage_probes_become_rarer_up_to_a_limit(network) -> None:
    network.is_there = False
    asked_s = []
    network.fail_at(0.0)

    for now_s in range(1, 200):
        network.connectivity.probe(float(now_s))
        if network.probes:
            asked_s.append(now_s)
            network.answer()

    assert asked_s[:5] == [1, 2, 4, 8, 16]
    assert {later - earlier for earlier, later in pairwise(asked_s[5:])} == {20}


def test_the_first_answer_ends_the_outage(network) -> None:
    network.is_there = False
    network.fail_at(0.0)

    network.is_there = True
    network.connectivity.probe(1.0)
    network.answer()

    assert network.connectivity.outage is None


def test_an_unexpected_error_in_a_probe_does_not_end_probing(network) -> None:
    network.is_there = False
    network.fail_at(0.0)

    network.connectivity._can_reach_hub = lambda: 1 / 0
    network.connectivity.probe(1.0)
    with pytest.raises(ZeroDivisionError):
        network.answer()
    network.connectivity._can_reach_hub = lambda: True
    network.fail_at(100.0)

    assert network.connectivity.outage is None
