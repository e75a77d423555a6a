"""Choosing with `%gguf` in a real kernel: plans, ambiguous labels, raw parts, gated repositories, and failing searches."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.faulty_hub import PLAIN_TOKEN, FaultyHub, RateLimited, Status
from tests.support.hub import make_repository
from tests.support.kernel import Cell, Kernel
from tests.support.pieces import cut, gguf_bytes
from tests.support.vocabulary import large_gguf

WHOLE = gguf_bytes()
FIRST, SECOND = "~11997cc5", "~1861554c"
LABELS = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")


@pytest.fixture(scope="module")
def hub() -> Iterator[FaultyHub]:
    checkpoints = {f"step-{number}/m-Q8_0.gguf": 20_000 + number for number in (1000, 2000)}
    large = {f"m-{label}.gguf": large_gguf(label, 8_000_000 + number) for number, label in enumerate(LABELS)}
    repositories = [
        make_repository("demo/checkpoints-GGUF", checkpoints),
        make_repository("demo/cut-GGUF", cut(WHOLE, [f"m.Q8_0.gguf.part{number}of3" for number in (1, 2, 3)])),
        make_repository("demo/gated-GGUF", {"m-Q4_K_M.gguf": 50_000}, gated="manual"),
        make_repository("demo/large-GGUF", large | {"mmproj-F16.gguf": 10_000}, downloads=99),
        make_repository("demo/broken-GGUF", {"m-Q8_0-00002-of-00003.gguf": 10_000, "m-Q2_K.gguf": 10_000}),
    ]
    with FaultyHub(repositories) as hub:
        yield hub


@pytest.fixture(scope="module")
def kernel(hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with Kernel(tmp_path_factory.mktemp("kernel"), hub.url) as kernel:
        kernel.run("%load_ext gglib_nb\nimport gglib_nb")
        yield kernel


def refusal(cell: Cell) -> str:
    assert cell.status == "error"
    [line] = [line for line in cell.text.splitlines() if line.strip()]
    return line


def test_a_plan_reads_a_large_header_in_few_bytes_and_its_rows_can_be_queued(hub: FaultyHub, kernel: Kernel) -> None:
    before = len(hub.requests)

    plan = kernel.run("%gguf plan demo/large-GGUF --context 4k")

    asked = hub.requests[before:]
    assert (len(asked), sum(record.bytes_sent for record in asked) < 300_000) == (5, True)
    assert "★ Q4_K_M is the usual choice." in plan.text
    assert "%gguf queue ROW --with mmproj" in plan.text
    assert "Memory is estimated for 4,000 tokens of context" in plan.text
    assert "linear-gradient" in plan.outputs[0]["data"]["text/html"]
    queued = kernel.run("%gguf queue 3 --with mmproj\n%gguf wait")
    assert "demo/large-GGUF:Q4_K_M" in queued.text
    assert "✓ all of it" in kernel.run("%gguf plan demo/large-GGUF:q4_k_m").text


def test_raw_parts_are_downloaded_as_one_file(kernel: Kernel) -> None:
    kernel.run("%gguf queue demo/cut-GGUF\n%gguf wait")

    path = Path(kernel.value("get_ipython().run_line_magic('gguf', 'path demo/cut-GGUF:Q8_0')"))
    assert path.name == "m.Q8_0.gguf"
    assert path.read_bytes() == WHOLE


def test_an_ambiguous_label_lists_names_that_every_verb_accepts(hub: FaultyHub, kernel: Kernel) -> None:
    message = refusal(kernel.run("%gguf queue demo/checkpoints-GGUF:Q8_0"))
    assert f"{FIRST} (step-1000/m-Q8_0.gguf), {SECOND} (step-2000/m-Q8_0.gguf)" in message

    queued = kernel.run(f"%gguf queue demo/checkpoints-GGUF:{FIRST} --no-start")
    assert f"Queued demo/checkpoints-GGUF:{FIRST}" in queued.text
    assert "in the queue" in kernel.run("%gguf plan demo/checkpoints-GGUF").text
    assert kernel.run(f"%gguf cancel {FIRST}").text.startswith(f"Cancelled demo/checkpoints-GGUF:{FIRST}")

    fault = hub.faults.add(Status(404), path="*step-2000/*.gguf", times=None)
    kernel.run(f"%gguf queue demo/checkpoints-GGUF:{SECOND}\n%gguf wait {SECOND}")
    hub.faults.remove(fault)
    assert kernel.run(f"%gguf retry demo/checkpoints-GGUF:{SECOND}").status == "ok"
    waited = kernel.run(f"%gguf wait demo/checkpoints-GGUF:{SECOND}\np = %gguf path demo/checkpoints-GGUF:{SECOND}")
    assert waited.status == "ok"
    assert kernel.value("p").endswith("demo/checkpoints-GGUF/step-2000/m-Q8_0.gguf")


def test_a_file_name_can_replace_a_quantization(kernel: Kernel) -> None:
    cell = kernel.run("%gguf queue demo/large-GGUF:m-q6_k.GGUF --no-start\n%gguf cancel Q6_K")

    assert "Queued demo/large-GGUF:Q6_K" in cell.text


def test_a_near_miss_is_one_line_with_a_suggestion(kernel: Kernel) -> None:
    message = refusal(kernel.run("%gguf queue demo/large-GGUF:Q4KM"))

    assert "demo/large-GGUF has no Q4KM. Did you mean Q4_K_M?" in message


def test_an_incomplete_set_is_refused_by_name_and_shown_in_the_plan(kernel: Kernel) -> None:
    message = refusal(kernel.run("%gguf queue demo/broken-GGUF:Q8_0"))

    assert "demo/broken-GGUF is missing 2 of the 3 files of Q8_0 (number 1, 3)" in message
    assert "2 of 3 files missing" in kernel.run("%gguf plan demo/broken-GGUF").text


def test_a_gated_repository_can_be_planned_and_says_what_to_do_before_queueing(hub: FaultyHub, kernel: Kernel) -> None:
    plan = kernel.run("%gguf plan demo/gated-GGUF")
    message = refusal(kernel.run("%gguf queue demo/gated-GGUF"))

    for text in (plan.text, message):
        assert f"{hub.url}/demo/gated-GGUF" in text
        assert "hf auth login" in text
    assert "Q4_K_M" in plan.text
    assert kernel.value("gglib_nb.get_manager().snapshot.items") == "()"


@pytest.mark.slow
def test_a_logged_in_user_without_access_is_asked_to_request_it(
    hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Kernel(tmp_path_factory.mktemp("kernel"), hub.url, {"HF_TOKEN": PLAIN_TOKEN}) as kernel:
        kernel.run("%load_ext gglib_nb")

        plan = kernel.run("%gguf plan demo/gated-GGUF")

    assert f"request access on {hub.url}/demo/gated-GGUF" in plan.text
    assert PLAIN_TOKEN not in str(plan.outputs)


def test_a_row_of_a_search_can_be_queued_by_its_number(kernel: Kernel) -> None:
    found = kernel.run("%gguf search GGUF --sort downloads")
    queued = kernel.run("%gguf queue 1 --no-start\n%gguf cancel demo/large-GGUF")

    first = next(line for line in found.text.splitlines() if line.strip().startswith("1 "))
    assert "demo/large-GGUF" in first
    assert "demo/large-GGUF:Q4_K_M" in queued.text


def test_a_rate_limited_search_says_when_to_retry(hub: FaultyHub, kernel: Kernel) -> None:
    fault = hub.faults.add(RateLimited(120), path="/api/models", times=None)

    message = refusal(kernel.run("%gguf search llama"))

    hub.faults.remove(fault)
    assert "limits the number of requests (429). Try again in 2 min 01 s." in message


@pytest.mark.slow
def test_offline_search_and_plan_report_it_and_send_no_request(
    hub: FaultyHub, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = len(hub.requests)
    with Kernel(tmp_path_factory.mktemp("kernel"), hub.url, {"HF_HUB_OFFLINE": "1"}) as kernel:
        kernel.run("%load_ext gglib_nb")

        messages = [refusal(kernel.run(f"%gguf {line}")) for line in ("search llama", "plan demo/large-GGUF")]

    assert all("Offline mode is on" in text and "HF_HUB_OFFLINE" in text for text in messages)
    assert len(hub.requests) == before
