"""The endurance run, as short as a test must be; `make endurance` runs for ten minutes."""

import pytest

from tests.endurance.run import EnduranceRun, report


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_digest_is_right_after_random_faults_operations_and_kills(tmp_path) -> None:
    run = EnduranceRun(tmp_path, seed=20, minutes=0.5, kernel_kills=1, engine_kills=2)

    run.go()

    print(report(run, seed=20))
    assert sum(run.tally.outcomes.values()) == 10
    assert (run.tally.kernel_kills, run.tally.engine_kills) == (1, 2)
