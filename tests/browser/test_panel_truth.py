"""The panel shows the true state: after a reload, in a second view, after lost messages, without a kernel, with any number of rows."""

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support import scenes
from tests.support.fake_manager import FakeManager
from tests.support.snapshots import GB, completed, download, run_summary, shards

pytestmark = pytest.mark.browser

MODEL = "owner/model-GGUF:Q4_K_M"


def test_progress_is_shown_as_it_comes(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=GB)))

    panel.show_queue(download(MODEL, "downloading", downloaded_bytes=3 * GB, bytes_per_second=45.2e6, eta_seconds=22.0))

    row = panel.row("model-GGUF")
    expect(row.get_by_role("progressbar", name="Progress of model-GGUF Q4_K_M")).to_have_attribute(
        "aria-valuenow", "75"
    )
    expect(row).to_contain_text("3.0 GB of 4.0 GB")
    expect(row).to_contain_text("45.2 MB/s")
    expect(row).to_contain_text("22 s left")


def test_the_total_eta_is_hidden_until_one_eta_is_known(open_panel):
    running: dict[str, Any] = {"downloaded_bytes": GB, "bytes_per_second": 1e6}
    panel = open_panel(FakeManager(download(MODEL, "downloading", **running), bytes_per_second=1e6, eta_seconds=1260.0))
    pace = panel.page.locator(".gglib-eta")
    expect(pace).to_have_text("")

    panel.show_queue(
        download(MODEL, "downloading", **running, eta_seconds=120.0), bytes_per_second=1e6, eta_seconds=120.0
    )

    expect(pace).to_have_text("2 min 00 s left")


@pytest.mark.slow
def test_a_stall_is_reported_and_not_drawn_as_speed(open_panel):
    stalled: dict[str, Any] = {"notice": "stalled for 12 s", "notice_kind": "stalled", "bytes_per_second": 0.0}
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=GB, **stalled)))

    expect(panel.row("model-GGUF")).to_contain_text("stalled for 12 s")
    expect(panel.row("model-GGUF")).to_contain_text("0 B/s")


def test_the_current_state_is_described_in_words(open_panel):
    notices = {
        "owner/one-GGUF:Q8_0": ("downloading", "waiting for another kernel"),
        "owner/two-GGUF:Q8_0": ("downloading", "retrying in 8 s (429)"),
        "owner/three-GGUF:Q8_0": ("finalizing", "verifying"),
        "owner/four-GGUF:Q8_0": ("registering", "registering"),
    }
    panel = open_panel(
        FakeManager(
            *(
                download(name, status, downloaded_bytes=GB, notice=notice, notice_kind="any")
                for name, (status, notice) in notices.items()
            )
        )
    )

    expect(panel.page.locator(".gglib-note")).to_have_text([notice for _, notice in notices.values()])


def test_a_request_whose_files_are_still_listed_is_shown(open_panel):
    panel = open_panel(FakeManager(resolving=("owner/asked",)))

    expect(panel.row("owner/asked")).to_contain_text("listing its files")


def test_a_running_row_of_a_few_files_is_open_and_has_a_bar_for_every_file(open_panel):
    panel = open_panel(scenes.busy())

    row = panel.row("Qwen3-30B-A3B")
    assert row.locator(".gglib-shard .gglib-state").all_inner_texts() == [
        "finished",
        "downloading",
        "downloading",
        "queued",
    ]
    expect(row.get_by_role("progressbar", name="00002-of-00004")).to_have_attribute("aria-valuenow", "64")


def test_a_bar_is_divided_into_its_files_in_proportion_and_each_shows_its_state(open_panel):
    panel = open_panel(scenes.halfway())

    segments = panel.row("Qwen3-Coder-480B").locator(".gglib-segment")
    states = segments.evaluate_all("nodes => nodes.map((node) => node.dataset.state)")
    widths = segments.evaluate_all("nodes => nodes.map((node) => Math.round(node.getBoundingClientRect().width))")
    heights = segments.evaluate_all("nodes => nodes.map((node) => node.getBoundingClientRect().height)")

    assert states == ["finished"] * 4 + ["verifying"] + ["downloading"] * 3 + ["queued"] * 4
    assert widths[11] / widths[0] == pytest.approx(1.9 / 4.6, abs=0.05)
    assert heights[0] > 2 * heights[11]
    expect(panel.row("Qwen3-Coder-480B").get_by_role("progressbar")).to_have_attribute(
        "aria-valuetext", "56 %, 4 of 12 files done"
    )


@pytest.mark.slow
def test_a_companion_is_separate_from_the_model(open_panel):
    panel = open_panel(scenes.halfway())

    gap = panel.row("gemma-3-12b").evaluate(
        """row => {
          const [model, projector] = [...row.querySelectorAll(".gglib-segment")].map((node) => node.getBoundingClientRect());
          return projector.left - model.right;
        }"""
    )

    assert gap > 5


@pytest.mark.slow
def test_a_model_of_two_hundred_files_has_a_readable_bar(open_panel):
    many = shards("model", [GB] * 200, [GB] * 100 + [0] * 100)
    panel = open_panel(
        FakeManager(download(MODEL, "downloading", total_bytes=200 * GB, downloaded_bytes=100 * GB, shards=many)),
        width=360,
    )

    segments = panel.row("model-GGUF").locator(".gglib-segment")
    widths = segments.evaluate_all("nodes => nodes.map((node) => node.getBoundingClientRect().width)")

    assert len(widths) == 40
    assert min(widths) > 3
    assert segments.evaluate_all("nodes => nodes.filter((node) => node.dataset.state === 'finished').length") == 20


def test_a_row_stays_expanded_or_collapsed_in_the_next_view(open_panel):
    panel = open_panel(scenes.busy())
    files = panel.page.locator(".gglib-shard:visible")
    opener = "Details of Qwen3-30B-A3B-Instruct-2507-GGUF UD-Q4_K_XL"
    shown_at_first = files.count()

    panel.press(opener)
    panel.page.evaluate("views[0]()")
    panel.show()

    expect(panel.button(opener)).to_have_attribute("aria-expanded", "false")
    assert shown_at_first - files.count() == 4


def test_an_expanded_row_stays_expanded_while_it_moves(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=GB)))
    panel.press("Details of model-GGUF Q4_K_M")

    panel.show_queue(download(MODEL, "downloading", downloaded_bytes=2 * GB))

    expect(panel.row("model-GGUF").locator(".gglib-shard")).to_contain_text("2.0 GB of 4.0 GB")


def test_a_second_view_shows_the_same_and_gets_the_same_updates(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=GB)))
    panel.show_queue(download(MODEL, "downloading", downloaded_bytes=2 * GB))

    panel.show()
    panel.show_queue(download(MODEL, "downloading", downloaded_bytes=3 * GB))

    views = panel.page.locator(".gglib-panel")
    for number in range(2):
        expect(views.nth(number)).to_contain_text("3.0 GB of 4.0 GB")


def test_a_lost_message_is_requested_again(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=GB)))
    panel.manager.show(download(MODEL, "paused", downloaded_bytes=2 * GB))
    panel.lose()

    panel.show_queue(download(MODEL, "paused", downloaded_bytes=2 * GB), max_size=12)

    assert [message["kind"] for message in panel.sent].count("sync") == 2
    expect(panel.row("model-GGUF")).to_contain_text("2.0 GB of 4.0 GB")
    panel.sees("11 places free")


def test_without_a_kernel_the_last_state_is_marked_and_buttons_are_disabled(open_panel):
    panel = open_panel(scenes.busy())
    sent = len(panel.sent)

    panel.disconnect()
    panel.sees("The kernel has stopped")
    panel.button("Pause Llama-3.2-3B-Instruct-GGUF Q6_K").click(force=True)
    panel.pump()

    assert len(panel.sent) == sent
    expect(panel.row("Qwen3-30B-A3B")).to_contain_text("9.3 GB of 17.0 GB")


def test_without_a_kernel_no_rate_or_eta_is_shown(open_panel):
    panel = open_panel(scenes.busy())

    panel.disconnect()

    expect(panel.row("Qwen3-30B-A3B")).to_contain_text("stopped with the kernel")
    expect(panel.row("gemma-3-12b")).not_to_contain_text("stalled")
    expect(panel.row("Qwen3-30B-A3B").locator(".gglib-state")).to_have_text(["finished", "", "", ""])
    expect(panel.page.locator(".gglib-counts")).to_have_text("last seen: 2 active · 3 waiting · 7 places free")
    expect(panel.page.locator(".gglib-pace")).to_have_text("")
    expect(panel.row("Qwen3-30B-A3B").locator(".gglib-facts > *")).to_have_text(
        ["9.3 GB of 17.0 GB", "1 of 4 files done"]
    )


def test_without_a_kernel_a_stalled_row_looks_like_every_other_stopped_row(open_panel):
    panel = open_panel(scenes.busy())
    colour = "node => getComputedStyle(node).color"
    notes = [panel.row(name).locator(".gglib-note") for name in ("Qwen3-30B-A3B", "gemma-3-12b")]

    panel.disconnect()

    for note in notes:
        expect(note).to_have_text("stopped with the kernel")
    assert notes[0].evaluate(colour) == notes[1].evaluate(colour)


def test_a_kernel_that_cannot_receive_messages_counts_as_stopped(open_panel):
    panel = open_panel(FakeManager(download(MODEL)))
    panel.page.evaluate("() => { model.send = () => { throw new Error('Cannot send'); }; }")

    panel.press("Pause model-GGUF Q4_K_M")

    expect(panel.row("model-GGUF")).to_contain_text("The kernel stopped before it answered")
    panel.sees("The kernel has stopped, and so have its downloads.")


@pytest.mark.slow
def test_a_kernel_that_does_not_answer_a_new_view_is_reported_without_a_rate(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=10**9, bytes_per_second=58.4e6)))
    panel.is_answering = False
    panel.show()
    silent = panel.page.get_by_text("The kernel has not answered yet")
    paces = panel.page.get_by_text("58.4 MB/s")
    expect(paces).to_have_count(2)

    expect(silent).to_be_visible()
    expect(paces).to_have_count(0)  # the other view received nothing either
    panel.answer()

    expect(silent).to_be_hidden()
    expect(paces).to_have_count(2)


@pytest.mark.slow
def test_requests_pending_when_the_kernel_stopped_are_reported_as_unanswered(open_panel):
    manager = FakeManager(download(MODEL, "downloading"))
    manager.answers["pause"] = scenes.never()
    panel = open_panel(manager)
    panel.press("Pause model-GGUF Q4_K_M")

    panel.disconnect()

    expect(panel.row("model-GGUF")).to_contain_text("The kernel stopped before it answered")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({"failed": 2}, "No model completed: 2 failed after 4 min 00 s."),
        pytest.param({"completed": 2}, "Finished in 4 min 00 s: 2 models complete", marks=pytest.mark.slow),
        pytest.param({"completed": 1, "failed": 1}, "1 failed", marks=pytest.mark.slow),
    ],
)
def test_a_finished_run_is_summarized_even_if_everything_failed(open_panel, outcome, words):
    panel = open_panel(FakeManager(completed(MODEL), last_run=run_summary(**outcome)))

    panel.sees(words)


def test_the_failed_row_says_what_to_do(open_panel):
    panel = open_panel(scenes.errors())

    row = panel.row("gemma-3-27b")
    expect(row).to_contain_text("Accept its terms on its page, then retry.")
    expect(row.get_by_role("link")).to_have_attribute(
        "href", "https://huggingface.co/google/gemma-3-27b-it-qat-q4_0-gguf"
    )


def test_the_finished_row_has_path_code_size_time_rate_and_digest(open_panel):
    panel = open_panel(FakeManager(completed(MODEL, seconds=80)))

    row = panel.row("model-GGUF")
    for words in ("4.0 GB", "1 min 20 s", "50.0 MB/s", "SHA-256 verified", "/home/ada/models/owner/model-GGUF/"):
        expect(row).to_contain_text(words)
    panel.press("Details of model-GGUF Q4_K_M")
    expect(row).to_contain_text("from llama_cpp import Llama")


def test_an_ended_download_expands_nothing(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=GB)))

    panel.show_queue(completed(MODEL))

    expect(panel.button("Details of model-GGUF Q4_K_M")).to_have_attribute("aria-expanded", "false")


def test_an_ended_download_moves_neither_rows_nor_cells_below(open_panel):
    two = shards("model-Q4_K_M", [2 * GB, 2 * GB], [2 * GB, GB])
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=3 * GB, shards=two)))
    panel.page.evaluate(
        "document.body.append(Object.assign(document.createElement('p'), {id: 'below', textContent: 'x'}))"
    )
    panel.pump()

    def tops() -> list[float]:
        found: list[float] = panel.page.evaluate(
            "['.gglib-list', '#below'].map((one) => document.querySelector(one).getBoundingClientRect().top)"
        )
        return found

    before = tops()
    panel.show_queue(completed(MODEL), last_run=run_summary(completed=1))
    after = tops()
    panel.press("Details of model-GGUF Q4_K_M")

    panel.sees("Finished in 4 min 00 s")
    assert after == before


@pytest.mark.parametrize(
    ("width", "files"),
    [(900, 1), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((900, 4), (560, 1), (560, 4)))],
)
def test_a_run_from_its_start_to_its_end_shifts_no_cell_below(open_panel, width, files):
    first, second = "owner/first-GGUF:Q4_K_M", "owner/second-GGUF:Q4_K_M"
    sizes = [4 * GB // files] * files
    bars: dict[str, Any] = {"shards": shards("model-Q4_K_M", sizes, [size // 2 for size in sizes])}
    running: dict[str, Any] = {"downloaded_bytes": 2 * GB, "bytes_per_second": 1e6, "eta_seconds": 5.0, **bars}
    panel = open_panel(FakeManager(download(first, "downloading", **running), download(second, **bars)), width=width)
    panel.page.evaluate(
        """() => {
          document.body.append(Object.assign(document.createElement("p"), { id: "below", textContent: "x" }));
          window.shifted = [];
          new PerformanceObserver((list) => {
            for (const { sources } of list.getEntries()) window.shifted.push(...sources.map(({ node }) => node?.id));
          }).observe({ type: "layout-shift" });
        }"""
    )
    panel.pump()

    panel.show_queue(completed(first), download(second, "downloading", **running))
    panel.show_queue(completed(first), completed(second), last_run=run_summary(completed=2))
    by_itself = panel.page.evaluate("shifted")
    panel.press("Details of first-GGUF Q4_K_M")
    panel.press("Limits")
    by_hand = panel.page.evaluate("shifted")

    assert "below" not in by_itself
    assert "below" in by_hand


@pytest.mark.slow
def test_a_file_without_a_digest_is_not_called_verified(open_panel):
    panel = open_panel(FakeManager(replace(completed(MODEL), is_verified=False)))

    expect(panel.row("model-GGUF")).to_contain_text("not verified: the Hub gives no SHA-256")


@pytest.mark.slow
def test_500_rows_are_painted_within_a_frame(open_panel):
    panel = open_panel(scenes.many(500))
    first, *rest = panel.manager.snapshot.items
    panel.page.evaluate(
        """() => {
          window.longest = 0;
          new PerformanceObserver((list) => {
            for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
          }).observe({ type: "longtask" });
        }"""
    )

    for step in range(1, 6):
        panel.show_queue(replace(first, downloaded_bytes=step * GB), *rest, max_size=510)

    longest_ms = panel.page.evaluate("longest")  # before `rows`, whose query is a long task of its own

    assert longest_ms < 200
    assert len(panel.rows()) == 500


@pytest.mark.slow
def test_a_scrolled_list_keeps_its_position_when_the_queue_changes(open_panel):
    panel = open_panel(scenes.many(200))
    scroller = panel.page.locator(".gglib-list")
    scroller.evaluate("list => list.scrollTo(0, 3000)")
    panel.pump()
    before = panel.row("Model-070").bounding_box()

    items = (*panel.manager.snapshot.items, download("owner/one-more-GGUF:Q8_0"))
    panel.show_queue(*items, max_size=300)

    assert panel.row("Model-070").bounding_box()["y"] == pytest.approx(before["y"], abs=1)
