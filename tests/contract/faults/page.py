"""The fault matrix as a page: `python -m tests.contract.faults.page` writes MATRIX.md."""

from pathlib import Path

from tests.contract.faults.matrix import GROUPS
from tests.contract.faults.row import Fails, Heals, Proved, Refused, Row

PAGE = Path(__file__).resolve().parent / "MATRIX.md"
_HEAD = """\
# Faults

What goes wrong on lines, disks, hubs and mirrors, what you see of it, and what holds afterwards: {rows} rows. This page is
written by `python -m tests.contract.faults.page` from the table of the tests (`tests/contract/faults/matrix.py`), which make
each fault on a real hub, line, disk or process.

After **every** row: what passes has healed by itself and was shown while it did; what does not pass has failed at once, with
what to do; the queue has gone on with the next download; the download could be had once the fault was over; nothing wrong
stands under a final name; no byte that was already right was fetched again; the download process holds no more
threads, files and connections than before.

`{{n}}` stands for a number, `{{clock}}` for a time of day, `{{hub}}`, `{{repo}}` and `{{file}}` for what was asked for. A test's
patience is short; the engine's own is {{PATIENCE}}.
"""


def page() -> str:
    """The whole text."""
    from gglib_nb.engine.timeouts import Timeouts

    usual = Timeouts()
    patience = (
        f"{usual.give_up_s:g} s of failures without a new byte, tries {usual.first_delay_s:g} to {usual.longest_delay_s:g} s apart, "
        f"{usual.stall_s:g} s for a connection on which nothing comes, {usual.lease_s:g} s for a process that gives no sign of life"
    )
    rows = sum(len(rows) for rows in GROUPS.values())
    head = _HEAD.format(rows=rows).replace("{PATIENCE}", patience)
    return head + "".join(_group(title, rows) for title, rows in GROUPS.items())


def _group(title: str, rows: tuple[Row, ...]) -> str:
    table = ["| What happens | How it is made | What you see | Afterwards |", "|---|---|---|---|"]
    table += [f"| {' | '.join(map(_cell, _columns(row)))} |" for row in rows]
    return f"\n## {title}\n\n" + "\n".join(table) + "\n"


def _columns(row: Row) -> tuple[str, str, str, str]:
    made = "; ".join(made.words for made in row.made)
    if row.after_bytes is not None:
        made += f"; after {row.after_bytes / 1e6:g} MB"
    match row.ends:
        case Heals():
            seen = "nothing" if row.ends.line is None else f"“{row.ends.line}”"
            after = "complete"
            after += ", fetched anew" if row.ends.begins_anew else ""
        case Fails():
            seen = f"{row.ends.error.__name__}: “{row.ends.line}”"
            how = {"retry": "`retry` once it is over", "queue": "`queue` once it is over"}[row.ends.again]
            after = f"failed; {'`retry` may help at any time' if row.ends.can_retry else how}"
            if row.ends.asks is not None:
                after += {0: "; nothing was asked", 1: "; asked once"}.get(
                    row.ends.asks, f"; asked {row.ends.asks} times at most"
                )
        case Refused():
            seen = f"{row.ends.error.__name__}: “{row.ends.line}”"
            after = "nothing was queued"
        case Proved():
            made = f"`{row.ends.by.rpartition('/')[2].replace('::', '` `')}`"
            seen = f"“{row.ends.line}”" if row.ends.line else "nothing"
            after = row.ends.state
    return row.behaviour, made, seen, after + (f"; {row.state}" if row.state else "")


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page())
