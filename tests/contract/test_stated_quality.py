"""A publisher's own measurements in `plan`, with the embedded hub."""

from collections.abc import Callable

import pytest

from gglib_nb import DownloadManager, Quality
from gglib_nb.notebook.session import Session
from gglib_nb.notebook.verbs import parse
from tests.support.faulty_hub import FaultyHub, Status
from tests.support.hub import make_repository, small_gguf

REPO = "demo/measured-GGUF"
CARD = """# Measured

| Quant | Size | PPL | Mean KLD |
|---|---|---|---|
| `Q4_K_M` | 3 GB | 6.52 ± 0.04 | 0.0123 |
| `Q8_0` | 8 GB | 6.40 | 0.0011 |
"""


@pytest.fixture
def hub(make_hub: Callable[..., FaultyHub]) -> FaultyHub:
    return make_hub()


def publish(hub: FaultyHub, **texts: bytes) -> None:
    files = {name: small_gguf(name, 20_000) for name in ("measured-Q4_K_M.gguf", "measured-Q8_0.gguf")}
    names = {"card": "README.md", "kld": "kld.json"}
    hub.add_repository(make_repository(REPO, {**files, **{names[name]: text for name, text in texts.items()}}))


def qualities(manager: DownloadManager) -> dict[str, Quality | None]:
    return {variant.key: variant.quality for variant in manager.sync.plan(REPO).variants}


def test_the_plan_shows_the_quality_stated_in_the_card(manager: DownloadManager, hub: FaultyHub) -> None:
    publish(hub, card=CARD.encode())

    assert qualities(manager) == {"Q4_K_M": Quality(0.0123, 6.52), "Q8_0": Quality(0.0011, 6.4)}
    answer = parse(f"plan {REPO}").run(Session(lambda: manager))
    assert "as the publisher states them" in answer.text
    assert "0.0123" in (answer.html or "")


def test_json_files_in_the_repository_are_read(manager: DownloadManager, hub: FaultyHub) -> None:
    publish(hub, kld=b'{"Q8_0": {"kld": 0.0011}}')

    assert qualities(manager) == {"Q4_K_M": None, "Q8_0": Quality(0.0011, None)}


def test_without_a_stated_quality_nothing_is_shown(manager: DownloadManager, hub: FaultyHub) -> None:
    publish(hub, card=b"# A good model\nQ4_K_M is the best.")

    answer = parse(f"plan {REPO}").run(Session(lambda: manager))

    assert "publisher" not in answer.text
    assert "erplexity" not in answer.text


def test_only_a_megabyte_of_a_huge_card_is_read(manager: DownloadManager, hub: FaultyHub) -> None:
    publish(hub, card=CARD.encode() + b"\x1b[2J<script>" * 1_000_000)

    assert qualities(manager)["Q8_0"] == Quality(0.0011, 6.4)
    assert "\x1b" not in parse(f"plan {REPO}").run(Session(lambda: manager)).text
    assert hub.bytes_sent() < 4_000_000


def test_an_unreadable_card_does_not_affect_the_plan(manager: DownloadManager, hub: FaultyHub) -> None:
    publish(hub, card=CARD.encode())
    hub.faults.add(Status(404), path="*README.md", times=None)

    assert qualities(manager) == {"Q4_K_M": None, "Q8_0": None}
