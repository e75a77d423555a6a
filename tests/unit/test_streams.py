"""Streams of every kind: without some methods, closed, or not UTF-8."""

import io
from types import SimpleNamespace

import pytest

from gglib_nb.manager.progress import LoggedDownload, encodable, is_open, is_terminal, view_for, write_text
from gglib_nb.notebook import render, tables
from tests.support.snapshots import GB, download, snapshot

SAID = render.render_text(snapshot(download(status="downloading", downloaded_bytes=GB, bytes_per_second=1e6)))


class Bare:
    """A stream that can only write."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, what: str) -> None:
        self.written.append(what)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp949", "ascii", "no-such-encoding"])
def test_our_text_can_be_written_in_any_encoding(encoding):
    stream = SimpleNamespace(encoding=encoding)

    plain = encodable(SAID, stream)

    plain.encode("ascii" if encoding.startswith("no") else encoding)
    assert "1.0 GB of 4.0 GB" in plain


def test_encodable_text_is_not_changed():
    assert encodable(SAID, SimpleNamespace(encoding="utf-8")) == SAID
    assert encodable(SAID, io.StringIO()) == SAID


def test_a_write_only_stream_is_open_and_not_a_terminal():
    bare = Bare()

    write_text(bare, "a line")

    assert not is_terminal(bare)
    assert is_open(bare)
    assert bare.written == ["a line"]


def test_a_closed_stream_is_neither_open_nor_a_terminal():
    closed = io.StringIO()
    closed.close()

    assert not is_terminal(closed)
    assert not is_open(closed)
    assert not is_open(None)


def test_a_stream_whose_isatty_fails_is_no_terminal():
    def lost():
        raise RuntimeError("lost sys.stderr")

    assert not is_terminal(SimpleNamespace(isatty=lost))
    assert not is_terminal(SimpleNamespace(isatty=False))


def test_nothing_is_written_without_an_open_stream():
    closed = io.StringIO()
    closed.close()

    for stream in (None, closed):
        write_text(stream, "a line")


def test_progress_can_be_shown_on_a_write_only_standard_error(monkeypatch):
    monkeypatch.setattr("sys.stderr", Bare())

    view = view_for(None)

    assert view is not None
    view.show(download(status="downloading"))
    view.close()


def test_log_lines_are_written_to_the_stream_of_the_waiting_code(monkeypatch):
    monkeypatch.setattr(LoggedDownload, "_followed", {})
    own, capturing, minutes = Bare(), Bare(), iter([0.0, 60.0])
    view = LoggedDownload(own, lambda: next(minutes))

    view.show(download(status="downloading"))
    monkeypatch.setattr("sys.stderr", capturing)
    view.show(download(status="paused"))

    assert [line.startswith("gglib_nb: ") for line in own.written] == [True]
    assert capturing.written == []


def test_tables_can_be_written_in_any_encoding():
    shown = tables.Table((tables.Column("Note"),), [("★ ✓ — …",)]).text()

    assert encodable(shown, SimpleNamespace(encoding="ascii")).isascii()
