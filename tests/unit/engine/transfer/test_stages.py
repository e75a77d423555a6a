"""The table of a target's stages."""

import pytest

from gglib_nb.engine.transfer.stages import TRANSITIONS, Cause, Stage


def test_every_stage_can_be_reached_and_every_cause_is_used() -> None:
    assert {Stage.PENDING, *TRANSITIONS.steps.values()} == set(Stage)
    assert {cause for _stage, cause in TRANSITIONS.steps} == set(Cause)


def test_from_every_stage_but_done_there_is_a_way_on() -> None:
    assert set(Stage) - {stage for stage, _cause in TRANSITIONS.steps} == {Stage.DONE}


def test_only_a_check_or_a_rename_makes_a_target_done() -> None:
    assert {step for step, after in TRANSITIONS.steps.items() if after is Stage.DONE} == {
        (Stage.CHECKING, Cause.FOUND),
        (Stage.FINALIZING, Cause.RENAMED),
    }


def test_a_step_that_the_table_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(AssertionError, match="a target that is done has no step for: its turn"):
        TRANSITIONS.following(Stage.DONE, Cause.OPENED)


def test_the_picture_has_a_line_for_every_step() -> None:
    lines = TRANSITIONS.as_mermaid().splitlines()

    assert lines[:3] == ["stateDiagram-v2", "    [*] --> pending", "    pending --> checking: its turn"]
    assert len(lines) == 2 + len(TRANSITIONS.steps)
