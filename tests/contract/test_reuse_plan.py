"""The reuse estimate in a plan, the requests it costs, and a second variant downloaded by a manager."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gglib_nb import DownloadManager
from gglib_nb.domain.model import Model
from gglib_nb.domain.variants import variants_of
from gglib_nb.engine import disk
from gglib_nb.engine.reuse import find_donors
from gglib_nb.hub.client import HubClient
from gglib_nb.manager.advice import reusable_bytes
from gglib_nb.manager.resolving import registered_donors
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.plans import a_file, a_plan, stored
from tests.support.related import (
    Q4_K_M,
    Q4_K_S,
    Q8_0,
    RELATED,
    SMALL,
    SPLIT,
    content_of,
    place,
    related_files,
    related_repository,
    table_of,
)


@pytest.fixture
def hub(make_hub) -> FaultyHub:
    return make_hub([related_repository()])


@pytest.fixture
def client(hub) -> Iterator[HubClient]:
    client = HubClient(hub.url, None)
    yield client
    client.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def estimate(client: HubClient, models: Path) -> dict[tuple[str, ...], int]:
    """Reusable bytes by the files of each variant."""
    listing = client.list_files(RELATED)
    variants = variants_of((file.path, file.size_bytes) for file in listing.files).variants
    found = reusable_bytes(client, models, listing, variants, (), SMALL)
    return {variant.files: found[variant.key] for variant in variants if variant.key in found}


def shared_bytes(hub: FaultyHub, path: str, other: str) -> int:
    there = {(one.name, one.type, one.shape) for one in table_of(content_of(hub, other)).tensors}
    tensors = table_of(content_of(hub, path)).tensors
    return sum(one.span_bytes for one in tensors if (one.name, one.type, one.shape) in there)


def test_a_plan_gives_an_upper_bound_of_reusable_bytes_per_variant(hub, client, models) -> None:
    place(hub, models, Q4_K_S)

    found = estimate(client, models)

    assert found[Q4_K_M,] == shared_bytes(hub, Q4_K_M, Q4_K_S)
    assert found[Q8_0,] == 0  # its norms are the same, but too small to be sampled
    assert found[tuple(SPLIT)] == sum(shared_bytes(hub, path, Q4_K_S) for path in SPLIT)


def test_a_registered_model_on_a_disk_that_hangs_holds_up_no_plan(tmp_path: Path, monkeypatch) -> None:
    answers, stat = threading.Event(), Path.stat

    def hangs(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "hung":
            answers.wait(60)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", hangs)
    monkeypatch.setattr(disk, "_SEARCH_S", 0.2, raising=False)
    others = (str(tmp_path / "hung" / "m.gguf"),)
    search = threading.Thread(target=find_donors, args=(tmp_path / "o/r/m.gguf", "o/r", others, 1, threading.Event()))
    search.start()

    search.join(30)
    is_over = not search.is_alive()
    answers.set()

    assert is_over


def test_the_reuse_estimate_costs_two_short_requests_per_file(hub, client, models) -> None:
    place(hub, models, Q4_K_S)

    estimate(client, models)

    ranges = [one for one in hub.ranges(Q8_0) if one is not None]
    assert len(ranges) == 2
    assert sum((last or 0) - (first or 0) + 1 for first, last in ranges) < 300_000


def test_without_local_files_no_request_is_sent(hub, client, models) -> None:
    assert estimate(client, models) == {}
    assert [one for one in hub.requests if one.origin == "cdn"] == []


@pytest.mark.slow
async def test_a_second_variant_reports_the_bytes_copied_from_the_first(manager: DownloadManager, hub, models) -> None:
    # 120 MB in Q4_K_M, of which more than the minimum of 64 MB are the same in Q4_K_S.
    files = related_files(embedding=1024, feed_forward=3072, layers=18)
    hub.add_repository(make_repository(RELATED, {path: files[path] for path in (Q4_K_M, Q4_K_S)}))
    place(hub, models, Q4_K_S)

    plan = await manager.plan(RELATED, "Q4_K_M")
    queued = await manager.queue_smart(RELATED, "Q4_K_M")
    finished = await manager.wait(queued.id)

    most = plan.variants[0].reusable_bytes
    assert most == shared_bytes(hub, Q4_K_M, Q4_K_S)
    assert finished.is_verified
    assert finished.reused_from == ("Q4_K_S",)
    assert most * 0.98 < finished.reused_bytes <= most
    done = (await manager.get_queue_snapshot()).recent_completed[0]
    assert done.notice is not None
    assert done.notice.endswith(" MB taken from Q4_K_S on this disk")
    assert hub.bytes_sent(Q4_K_M) < content_of(hub, Q4_K_M).size_bytes - most * 0.98 + 500_000


@pytest.mark.parametrize(
    ("here", "wanted", "is_donor"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q8_0.gguf", True),
        ("Qwen_Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q8_0.gguf", True),
        ("UD-Q4/Qwen3-8B-UD-Q4_K_XL-00001-of-00002.gguf", "qwen3-8b-q8_0.gguf", True),
        ("Qwen3-14B-Q4_K_M.gguf", "Qwen3-8B-Q8_0.gguf", False),
        ("Q4_K_M.gguf", "Qwen3-8B-Q8_0.gguf", False),
    ],
)
def test_a_registered_model_of_the_same_name_can_be_a_donor(here, wanted, is_donor) -> None:
    plan = a_plan("owner/model:Q4_K_M", a_file(here))
    model = Model(plan.id, plan.commit_sha, plan.label, stored(plan), 0.0)

    assert registered_donors([model], wanted) == ((f"/models/{here}",) if is_donor else ())
