"""A progress line: in place on a terminal, at every quarter in a log."""

import io

import pytest

from gglib_nb.notebook.progress import TextLine


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal is 12 columns wide."""
    monkeypatch.setenv("COLUMNS", "12")


def line(*, is_terminal: bool) -> tuple[TextLine, io.StringIO]:
    stream = io.StringIO()
    vars(stream)["isatty"] = lambda: is_terminal
    return TextLine(stream), stream


def test_each_quarter_is_logged_once() -> None:
    shown, stream = line(is_terminal=False)

    for percent in (0, 3, 26, 30, 50, 99, 100):
        shown.show(("reading", percent / 100))
    shown.close()

    assert [text.split()[0] for text in stream.getvalue().splitlines()] == ["0", "26", "50", "99", "100"]


def test_the_terminal_is_redrawn_in_place_and_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown, stream = line(is_terminal=True)

    shown.show(("reading", 0.25))
    shown.show(("reading", 0.25))
    shown.close()

    assert stream.getvalue() == " 25 %  reading\n\x1b[1F\x1b[J"


def test_a_line_never_wraps() -> None:
    shown, stream = line(is_terminal=True)

    shown.show(("reading something long", 0.5))

    assert stream.getvalue() == " 50 %  rea…\n"


def test_a_line_never_wraps_without_an_ellipsis_in_the_encoding() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    vars(stream)["isatty"] = lambda: True

    TextLine(stream).show(("reading something", 0.5))

    assert stream.buffer.getvalue() == b" 50 %  rea.\n"


def test_an_untrusted_name_cannot_control_the_terminal() -> None:
    shown, stream = line(is_terminal=True)

    shown.show(("a\x1b[2Jb", None))

    assert "\x1b[2J" not in stream.getvalue()
