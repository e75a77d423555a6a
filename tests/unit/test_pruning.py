"""Which models are deleted to free space."""

from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.library import Leftover, ModelUse, plan_pruning

DAY_S = 86_400.0
NOW_S = 100 * DAY_S


def used(id_, days_ago, gigabytes=10, **changes):
    return ModelUse(id_, gigabytes * 10**9, NOW_S - days_ago * DAY_S, **changes)


def abandoned(path, days_ago, gigabytes=1):
    return Leftover(path, None, 0, gigabytes * 10**9, NOW_S - days_ago * DAY_S, is_in_use=False)


MODELS = [used("o/new:Q4", 1), used("o/old:Q4", 50), used("o/older:Q4", 60), used("o/mid:Q4", 20)]


def ids(plan):
    return [model.id for model in plan.models]


def test_the_least_recently_used_models_are_deleted_until_the_rest_fits():
    plan = plan_pruning(MODELS, [], NOW_S, keep_bytes=25 * 10**9)

    assert ids(plan) == ["o/older:Q4", "o/old:Q4"]
    assert (plan.kept_bytes, plan.freed_bytes, plan.missing_bytes) == (20 * 10**9, 20 * 10**9, 0)


def test_every_model_unused_for_that_long_is_deleted():
    assert ids(plan_pruning(MODELS, [], NOW_S, unused_s=20 * DAY_S)) == ["o/older:Q4", "o/old:Q4", "o/mid:Q4"]


def test_both_conditions_hold_together():
    plan = plan_pruning(MODELS, [], NOW_S, keep_bytes=10 * 10**9, unused_s=55 * DAY_S)

    assert ids(plan) == ["o/older:Q4", "o/old:Q4", "o/mid:Q4"]


def test_abandoned_downloads_are_deleted_before_any_model():
    plan = plan_pruning(MODELS, [abandoned("/m/a.gguf", 3)], NOW_S, keep_bytes=40 * 10**9)

    assert (ids(plan), [one.target for one in plan.unfinished]) == ([], ["/m/a.gguf"])


def test_a_recently_abandoned_download_is_kept_if_days_are_given():
    plan = plan_pruning([], [abandoned("/m/a.gguf", 1), abandoned("/m/b.gguf", 40)], NOW_S, unused_s=30 * DAY_S)

    assert [one.target for one in plan.unfinished] == ["/m/b.gguf"]


def test_a_queued_model_is_kept_and_the_missing_space_is_reported():
    plan = plan_pruning([used("o/old:Q4", 50, is_kept=True), used("o/new:Q4", 1)], [], NOW_S, keep_bytes=0)

    assert ids(plan) == ["o/new:Q4"]
    assert plan.missing_bytes == 10 * 10**9


def test_nothing_to_delete_is_false():
    assert not plan_pruning(MODELS, [], NOW_S, keep_bytes=10**12)


USES = st.lists(
    st.builds(
        ModelUse,
        id=st.uuids().map(str),
        size_bytes=st.integers(0, 10**12),
        last_used_at_s=st.floats(0, NOW_S),
        is_kept=st.booleans(),
    ),
    max_size=12,
)


@given(USES, st.none() | st.integers(0, 10**13), st.none() | st.floats(0, NOW_S))
def test_no_model_is_deleted_unnecessarily(models, keep_bytes, unused_s):
    plan = plan_pruning(models, [], NOW_S, keep_bytes=keep_bytes, unused_s=unused_s)

    assert not any(model.is_kept for model in plan.models)
    assert plan.kept_bytes + plan.freed_bytes == sum(model.size_bytes for model in models)
    by_age = sorted(plan.models, key=lambda model: model.last_used_at_s)
    assert [model.last_used_at_s for model in plan.models] == [model.last_used_at_s for model in by_age]
    if keep_bytes is not None and plan.models:
        newest = plan.models[-1]
        is_old = unused_s is not None and NOW_S - newest.last_used_at_s >= unused_s
        assert is_old or plan.kept_bytes + newest.size_bytes > keep_bytes


def test_a_model_is_not_deleted_for_a_file_that_a_kept_one_shares():
    first, between, last = used("o/a:Q4", 50, 0, shares_with=("o/c:Q4",)), used("o/b:Q4", 40), used("o/c:Q4", 1)

    assert ids(plan_pruning([first, between, last], [], NOW_S, keep_bytes=10 * 10**9)) == ["o/b:Q4"]
    assert ids(plan_pruning([first, between, last], [], NOW_S, keep_bytes=0)) == ["o/a:Q4", "o/b:Q4", "o/c:Q4"]
    assert ids(plan_pruning([first, between, last], [], NOW_S, unused_s=45 * DAY_S)) == ["o/a:Q4"]
