"""Accessibility of the panel: axe finds no violation in any state or theme, the keyboard reaches everything, nothing overflows.

It is long because it covers every state, theme and width, and each announcement.
"""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.support import scenes
from tests.support.fake_manager import FakeManager
from tests.support.panelpage import DARK, PanelPage
from tests.support.snapshots import GB, download

pytestmark = pytest.mark.browser

MODEL = "owner/model-GGUF:Q4_K_M"
TITLE = "model-GGUF Q4_K_M"


def choose(panel: PanelPage) -> None:
    panel.page.get_by_role("combobox").fill("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Show variants")


def look_around(panel: PanelPage) -> None:
    panel.press("Limits")
    panel.press("Cancel all")


def suggest(panel: PanelPage) -> None:
    panel.page.get_by_role("combobox").fill("llama")
    panel.hear("found")


def wider_than_the_panel(panel: PanelPage, width: int) -> list[str]:
    panel.page.set_viewport_size({"width": width, "height": 900})
    panel.pump()
    wider: list[str] = panel.page.evaluate(
        """() => {
          const edge = document.querySelector(".gglib-panel").getBoundingClientRect().right + 0.5;
          return [...document.querySelectorAll(".gglib-panel *")]
            .filter((node) => node.getBoundingClientRect().right > edge && !node.closest("pre, .gglib-bar"))
            .map((node) => node.className + " " + node.textContent);
        }"""
    )
    return wider


STATES: dict[str, tuple[Callable[[], FakeManager], Callable[[PanelPage], None]]] = {
    "empty": (scenes.empty, lambda panel: None),
    "busy": (scenes.busy, look_around),
    "halfway": (scenes.halfway, lambda panel: panel.press("Details of Qwen3-Coder-480B-A35B-Instruct-GGUF Q4_K_M")),
    "errors": (scenes.errors, lambda panel: None),
    "done": (scenes.done, lambda panel: None),
    "choosing": (scenes.choosing, choose),
    "suggesting": (scenes.choosing, suggest),
    "no kernel": (scenes.busy, lambda panel: panel.disconnect()),
}


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation(open_panel, axe, state, theme):
    make, act = STATES[state]
    panel = open_panel(make(), reduced_motion="reduce")
    if theme == "dark":
        panel.page.add_style_tag(content=DARK)
    act(panel)

    panel.page.evaluate(axe)
    found = panel.page.evaluate("axe.run('.gglib-panel', {resultTypes: ['violations']})")

    assert [
        (fault["id"], [(node["html"][:120], node["failureSummary"]) for node in fault["nodes"]])
        for fault in found["violations"]
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["busy", "halfway", "errors", "done", "choosing"])
def test_nothing_is_wider_than_the_panel_from_240_to_1400_pixels(open_panel, scene):
    panel = open_panel(getattr(scenes, scene)())
    if scene == "choosing":
        choose(panel)

    assert {width: wider_than_the_panel(panel, width) for width in (240, 300, 360, 400, 560, 900, 1400)} == {
        240: [],
        300: [],
        360: [],
        400: [],
        560: [],
        900: [],
        1400: [],
    }


@pytest.mark.parametrize(
    "width", [360, pytest.param(380, marks=pytest.mark.slow), pytest.param(590, marks=pytest.mark.slow)]
)
def test_names_rates_and_hints_are_not_truncated_in_a_narrow_panel(open_panel, width):
    panel = open_panel(scenes.busy(), width=width)

    hint, room = panel.page.evaluate(
        """() => {
          const field = document.querySelector("[role=combobox]");
          const style = getComputedStyle(field);
          const brush = document.createElement("canvas").getContext("2d");
          brush.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
          const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
          return [brush.measureText(field.placeholder).width, room];
        }"""
    )
    pace = panel.page.evaluate(
        "['.gglib-pace', '.gglib-rate'].map((one) => document.querySelector(one).getBoundingClientRect().right)"
    )
    names = panel.page.locator(".gglib-row .gglib-name").evaluate_all("nodes => nodes.map((node) => node.offsetWidth)")

    assert hint <= room
    assert pace[0] == pace[1]
    assert min(names) >= 120


@pytest.mark.parametrize("width", [380, pytest.param(900, marks=pytest.mark.slow)])
def test_the_loading_code_never_breaks_within_a_word(open_panel, width):
    panel = open_panel(scenes.done(), width=width)
    # JupyterLab's style for every output.
    panel.page.add_style_tag(
        content="body pre { white-space: pre-wrap; word-break: break-all; overflow-wrap: anywhere; }"
    )

    panel.press("Details of SmolLM3-3B-GGUF Q4_K_M")
    code = panel.page.locator(".gglib-code pre").first

    lines = code.inner_text().count("\n") + 1
    assert code.evaluate(
        "pre => (pre.clientHeight - 16) / parseFloat(getComputedStyle(pre).lineHeight)"
    ) == pytest.approx(lines, abs=0.9)


@pytest.mark.slow
def test_changing_digits_do_not_shift_the_layout(open_panel):
    panel = open_panel(
        FakeManager(
            download(
                MODEL, "downloading", downloaded_bytes=GB, bytes_per_second=9.9e6, eta_seconds=9.0, total_bytes=9 * GB
            )
        )
    )
    note = "document.querySelector('.gglib-facts > :nth-child(3)').getBoundingClientRect().x"
    before = panel.page.evaluate(note)

    panel.show_queue(
        download(
            MODEL,
            "downloading",
            downloaded_bytes=int(8.88 * GB),
            bytes_per_second=888.8e6,
            eta_seconds=3599.0,
            total_bytes=9 * GB,
        )
    )

    assert panel.page.evaluate(note) == before


def focused(panel: PanelPage) -> list[str]:
    """The label of the focused element, and its focus style."""
    found: list[str] = panel.page.evaluate(
        "[document.activeElement.ariaLabel, getComputedStyle(document.activeElement).outlineStyle]"
    )
    return found


def test_a_row_is_one_tab_stop_and_arrow_keys_reach_its_controls(open_panel):
    panel = open_panel(
        FakeManager(download("owner/first-GGUF:Q8_0"), download(MODEL), download("owner/last-GGUF:Q8_0"))
    )
    panel.button("Details of first-GGUF Q8_0").focus()

    panel.page.keyboard.press("Tab")
    by_tab = focused(panel)
    panel.page.keyboard.press("Home")
    reached = [focused(panel)]
    for _ in range(6):
        panel.page.keyboard.press("ArrowRight")
        reached.append(focused(panel))
    panel.page.keyboard.press("ArrowUp")
    above = focused(panel)

    grip = f"Reorder {TITLE}: drag, or press Alt with an arrow key"
    moves = [f"Move {TITLE} {where}" for where in ("to the top", "up", "down")]
    others = [f"{name} {TITLE}" for name in ("Pause", "Remove", "Details of")]
    assert by_tab == [f"Details of {TITLE}", "solid"]
    assert reached == [[grip, "solid"], *([name, "solid"] for name in moves + others)]
    assert above == ["Details of first-GGUF Q8_0", "solid"]


@pytest.mark.parametrize(
    "width", [620, pytest.param(360, marks=pytest.mark.slow), pytest.param(1200, marks=pytest.mark.slow)]
)
def test_the_move_controls_of_a_waiting_row_are_visible_without_hovering(open_panel, width):
    panel = open_panel(scenes.halfway(), width=width)

    rows = panel.page.locator('.gglib-row[data-status="queued"]')
    assert rows.count() == 3
    for control in (re.compile("^Move .* up$"), re.compile("^Move .* down$"), "Reorder"):
        for row in rows.all():
            node = row.get_by_label(control)
            expect(node).to_be_visible()
            assert node.evaluate("node => getComputedStyle(node).opacity") in ("1", "0.3")


def test_on_a_touch_screen_every_target_is_44_pixels(open_panel):
    panel = open_panel(scenes.busy(), width=380, has_touch=True)

    small = panel.page.evaluate(
        """[...document.querySelectorAll(".gglib-panel :is(button, input)")]
          .map((node) => [node.ariaLabel ?? node.textContent, node.getBoundingClientRect()])
          .filter(([, box]) => box.width && (box.width < 44 || box.height < 44))
          .map(([name, { width, height }]) => `${name} ${width} x ${height}`)"""
    )

    assert panel.page.evaluate("matchMedia('(pointer: coarse)').matches")
    assert small == []


@pytest.mark.parametrize(("width", "has_touch"), [(240, False), (300, True)])
def test_in_a_very_narrow_panel_no_button_covers_a_size_or_leaves_the_panel(open_panel, width, has_touch):
    panel = open_panel(scenes.busy(), width=width, has_touch=has_touch)

    covered = panel.page.evaluate(
        """() => [...document.querySelectorAll(".gglib-row")].flatMap((row) => {
          const size = row.querySelector(".gglib-measure").getBoundingClientRect();
          return [...row.querySelectorAll(".gglib-actions > *")]
            .filter((one) => one.offsetWidth)
            .map((one) => [one.ariaLabel, one.getBoundingClientRect()])
            .filter(([, box]) => (box.left < size.right && box.top < size.bottom && box.bottom > size.top) || box.right > innerWidth)
            .map(([name]) => name);
        })"""
    )

    assert covered == []


@pytest.mark.parametrize("width", [320, 620])
def test_the_button_that_closes_the_variants_stays_beside_their_repository(open_panel, width):
    panel = open_panel(scenes.choosing(), width=width)
    panel.page.get_by_role("combobox").fill("ggml-org/gemma-3-12b-it-GGUF")
    panel.press("Show variants")

    name, close = (panel.page.locator(f".gglib-offer header {part}").bounding_box() for part in ("strong", "button"))

    assert name is not None
    assert close is not None
    assert close["y"] < name["y"] + name["height"]
    assert close["width"] == close["height"] == 28


def test_a_row_without_buttons_beside_its_name_has_no_toolbar(open_panel):
    panel = open_panel(scenes.models())

    panel.press("Models")

    expect(panel.row("SmolLM3-3B")).to_be_visible()
    expect(panel.page.get_by_role("toolbar")).to_have_count(0)


def test_on_a_right_to_left_page_a_number_stays_before_its_unit(open_panel):
    panel = open_panel(scenes.busy())

    panel.page.evaluate("document.documentElement.dir = 'rtl'")

    edges = panel.page.get_by_text("9.3 GB of 17.0 GB").first.evaluate(
        """node => [0, node.textContent.length - 1].map((at) => {
          const range = document.createRange();
          range.setStart(node.firstChild, at);
          range.setEnd(node.firstChild, at + 1);
          return range.getBoundingClientRect().left;
        })"""
    )
    assert edges[0] < edges[1]


@pytest.mark.slow
def test_in_a_horizontal_box_the_panel_has_a_width(open_panel):
    panel = open_panel(scenes.busy())

    widths = panel.page.evaluate(
        """() => {
          const host = document.querySelector(".gglib-panel").parentElement;
          const box = host.parentElement.appendChild(document.createElement("div"));
          box.style.display = "flex";
          box.append(document.createElement("button"), host);
          const alone = host.getBoundingClientRect().width;
          const other = box.appendChild(document.createElement("div"));
          other.style.cssText = "flex: 1 1 500px";
          return [alone, host.getBoundingClientRect().width];
        }"""
    )

    assert widths[0] > 800
    assert widths[1] > 320


@pytest.mark.parametrize(
    "width", [590, pytest.param(380, marks=pytest.mark.slow), pytest.param(620, marks=pytest.mark.slow)]
)
def test_the_texts_of_a_row_do_not_overlap(open_panel, width):
    panel = open_panel(scenes.busy(), width=width)

    overlaps = panel.page.evaluate(
        """() => [...document.querySelectorAll(".gglib-shard")].flatMap((line) => {
          const boxes = [".gglib-which", ".gglib-amount", ".gglib-state"].map((one) => {
            const range = document.createRange();
            range.selectNodeContents(line.querySelector(one));
            const text = range.getBoundingClientRect();
            const clip = line.querySelector(one).getBoundingClientRect();
            return one === ".gglib-which" ? clip : text;
          });
          const isOver = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
          return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => isOver(a, b)).map(() => line.textContent));
        })"""
    )

    assert overlaps == []


def test_moves_pauses_and_cancels_are_announced(open_panel):
    manager = FakeManager(download("owner/first-GGUF:Q8_0"), download(MODEL))
    manager.answers["reorder_queue"] = lambda _name, position: position
    panel = open_panel(manager)
    live = panel.page.locator("[aria-live=polite] > :last-child")

    panel.press(f"Move {TITLE} up")
    expect(live).to_have_text(f"{TITLE} is number 1 now.")
    panel.show_queue(download("owner/first-GGUF:Q8_0"), download(MODEL, "paused"))
    expect(live).to_have_text(f"{TITLE} is paused.")
    panel.show_queue(download("owner/first-GGUF:Q8_0"), download(MODEL, "cancelled"))
    expect(live).to_have_text(f"{TITLE} was cancelled.")
    panel.show_queue(download("owner/first-GGUF:Q8_0"), download(MODEL))

    expect(live).to_have_text(f"{TITLE} is waiting in the queue again.")


def test_rows_leaving_the_lists_are_announced(open_panel):
    panel = open_panel(FakeManager(download("owner/first-GGUF:Q8_0", "failed"), download(MODEL, "failed")))
    live = panel.page.locator("[aria-live=polite] > :last-child")

    panel.press(f"Dismiss {TITLE}")
    expect(live).to_have_text(f"{TITLE} was removed from the list.")
    panel.press("Clear failed downloads")

    expect(live).to_have_text("Failed downloads cleared.")


def test_search_counts_and_queued_downloads_are_announced(open_panel):
    manager = scenes.choosing()
    manager.answers["queue_smart"] = type("Place", (), {"id": MODEL, "position": 1})()
    panel = open_panel(manager)
    live = panel.page.locator("[aria-live=polite] > :last-child")

    suggest(panel)
    expect(live).to_have_text("3 repositories found.")
    choose(panel)
    panel.press("Download Q4_K_M")

    expect(live).to_have_text("Q4_K_M of ggml-org/gemma-3-12b-it-GGUF is in the queue.")


def has_focus(panel: PanelPage) -> str:
    """The label or text of the focused element."""
    return str(panel.page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent"))


def test_a_removed_control_passes_the_focus_to_its_neighbour(open_panel):
    panel = open_panel(FakeManager(download("owner/first-GGUF:Q8_0", "downloading"), download(MODEL)))
    after = []

    panel.button("Pause all").focus()
    panel.show_queue(download("owner/first-GGUF:Q8_0", "downloading"))
    after.append(has_focus(panel))
    panel.button("Cancel all").focus()
    panel.show_queue()
    after.append(has_focus(panel))

    assert after == ["Models", "Models"]


def test_clearing_the_last_row_keeps_the_focus_in_the_panel(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "failed")))
    panel.button("Clear failed downloads").focus()

    panel.show_queue()

    assert has_focus(panel) == "Models"


def test_a_focus_outside_the_panel_is_not_moved_back(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "failed")))
    panel.button("Clear failed downloads").focus()
    panel.page.evaluate("document.activeElement.blur()")

    panel.show_queue()

    assert panel.page.evaluate("document.activeElement === document.body")


def test_a_short_panel_shows_all_suggestions(open_panel):
    panel = open_panel(scenes.choosing())
    panel.manager.answers["search"] *= 3

    suggest(panel)

    assert panel.page.get_by_role("row").count() == 9
    assert panel.page.evaluate(
        """() => {
          const last = document.querySelector("[role=row]:last-child").getBoundingClientRect();
          return document.elementFromPoint(last.left + 40, last.bottom - 4).closest("[role=row]:last-child") !== null;
        }"""
    )


def test_suggestions_are_chosen_with_the_keyboard_and_closed_with_escape(open_panel):
    panel = open_panel(scenes.choosing())
    suggest(panel)
    field = panel.page.get_by_role("combobox")

    panel.page.keyboard.press("ArrowDown")
    expect(panel.page.get_by_role("gridcell").first).to_have_attribute("aria-selected", "true")
    panel.page.keyboard.press("Escape")

    expect(field).to_have_attribute("aria-expanded", "false")
    expect(field).to_be_focused()


def test_starts_ends_and_failures_are_announced_but_not_progress(open_panel):
    panel = open_panel(FakeManager(download(MODEL)))
    live = panel.page.locator("[aria-live=polite] > :last-child")

    panel.show_queue(download(MODEL, "downloading"))
    expect(live).to_have_text(f"{TITLE} started.")
    panel.show_queue(download(MODEL, "downloading", downloaded_bytes=GB))

    expect(live).to_have_text(f"{TITLE} started.")


@pytest.mark.slow
def test_reduced_motion_is_respected(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=GB)), reduced_motion="reduce")

    assert panel.page.locator(".gglib-proven").first.evaluate("fill => getComputedStyle(fill).transitionDuration") in (
        "0s",
        "auto",
    )


def test_a_printed_panel_shows_every_row(open_panel):
    panel = open_panel(scenes.many())
    rows = panel.page.locator(".gglib-list").first
    assert rows.evaluate("list => list.scrollHeight > list.clientHeight + 1")

    panel.page.emulate_media(media="print")

    assert rows.evaluate("list => list.scrollHeight <= list.clientHeight + 1")
    expect(panel.page.locator(".gglib-proven").first).to_have_css("print-color-adjust", "exact")


@pytest.mark.slow
def test_high_contrast_keeps_the_bars(open_panel):
    panel = open_panel(FakeManager(download(MODEL, "downloading", downloaded_bytes=GB)), forced_colors="active")

    border = panel.page.locator(".gglib-segment").first.evaluate("bar => getComputedStyle(bar).borderTopWidth")

    assert border == "1px"
