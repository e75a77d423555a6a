"""Every result in every situation is a complete sentence: no None, no empty name, no gap."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gglib_nb.domain.reports import TransferFailed
from gglib_nb.errors import GglibError
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
from tests.support.engine import HASTY, LocalEngine
from tests.support.faulty_hub import (
    BadToken,
    Disabled,
    Gzipped,
    HangUp,
    LongBody,
    RangeNotSatisfiable,
    RateLimited,
    Redirect,
    ShortBody,
    Stall,
    Status,
    WrongBytes,
    WrongContentRange,
)
from tests.support.hub import make_repository
from tests.support.sentences import check_sentence

REPO = "demo/small-GGUF"
NAME = "small-Q4_K_M.gguf"
OLD = "c0ffee" * 6 + "cafe"
BRIEF = replace(HASTY, answer_s=0.2, stall_s=0.2, first_delay_s=0.001, longest_delay_s=0.001, give_up_s=0.05)

STATUSES = [
    300,
    303,
    400,
    401,
    402,
    403,
    404,
    405,
    406,
    407,
    408,
    409,
    410,
    416,
    418,
    422,
    425,
    429,
    451,
    500,
    502,
    503,
    504,
]
CODES = ["RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo", "Odd"]
ANSWERS = [
    *(Status(status) for status in STATUSES),
    *(Status(status, code) for code in CODES for status in (401, 403, 404)),
    Status(400, error_message=""),
    Status(400, error_message="."),
    Status(403, error_message="Access to this resource is disabled."),
    Disabled(),
    BadToken(),
    RateLimited(100_000),
    RateLimited(7, stated_by="nothing"),
    Redirect(),
    Redirect("file:///etc/passwd"),
    Redirect("http://[::1]:1/x"),
    HangUp(),
    Stall(),
    RangeNotSatisfiable(),
]
BODIES = [ShortBody(), LongBody(), WrongBytes(), WrongContentRange(1), WrongContentRange(0, 1), Gzipped(is_forced=True)]

ASKED: dict[str, Callable[[HubClient], object]] = {
    "a listing": lambda client: client.list_files(REPO),
    "a listing at a branch": lambda client: client.list_files(REPO, "main"),
    "a listing at a commit": lambda client: client.list_files(REPO, OLD),
    "a search": lambda client: client.search("small"),
    "a search for nothing": lambda client: client.search(),
    "access": lambda client: client.check_access(REPO),
    "a header": lambda client: client.read_range(REPO, OLD, NAME, 0, 100),
}


@pytest.mark.slow
def test_every_refusal_of_a_request_is_a_sentence(make_hub) -> None:
    hub = make_hub([make_repository(REPO, {NAME: 30_000})])
    anonymous, known = (
        HubClient(hub.url, token, retry_policy=RetryPolicy(tries=1, timeout_s=0.2)) for token in (None, "hf_x")
    )

    texts = set()
    for answer in ANSWERS:
        hub.faults.clear()
        hub.faults.add(answer, times=None)
        is_about_access = isinstance(answer, Status) and answer.status in {401, 403, 404}
        for client in (anonymous, known) if is_about_access else (anonymous,):
            for ask in ASKED.values():
                texts |= set(messages(lambda ask=ask, client=client: ask(client)))

    assert len(texts) > 50
    for text in texts:
        check_sentence(text)


def messages(ask: Callable[[], object]) -> Iterator[str]:
    try:
        ask()
    except GglibError as error:
        yield str(error)


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["hub", "cdn"])
@pytest.mark.parametrize("is_known", [True, False], ids=["listed", "size and digest unknown"])
def test_every_outcome_of_a_download_is_a_sentence(make_hub, tmp_path: Path, origin, is_known) -> None:
    hub = make_hub([make_repository(REPO, {NAME: 30_000})])
    engine = LocalEngine(hub, tmp_path, BRIEF)
    changes = {} if is_known else {"size_bytes": None, "sha256": None}

    texts = set()
    for answer in (*ANSWERS, *BODIES):
        hub.faults.clear()
        hub.faults.add(answer, origin=origin, times=None)
        end = engine.log.end_of(engine.begin(REPO, NAME, force=True, **changes))
        if isinstance(end, TransferFailed):
            texts.add(str(end.error))
    engine.close()

    assert len(texts) > 3
    for text in texts:
        check_sentence(text)
