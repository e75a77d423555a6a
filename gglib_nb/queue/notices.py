"""The one line that describes what a download is doing.

Written only here, so that the panel, the terminal and a program that reads the snapshot show the same words.
"""

from collections.abc import Sequence
from typing import Final

from gglib_nb.domain.units import amount, duration, plural

Notice = tuple[str, str]
"""Kind and sentence."""

# A list of more names is too long to read.
_MOST_NAMES: Final = 3


def notice_of(kind: str | None, seconds: float | None = None, text: str = "") -> Notice | None:
    """The notice of a kind; None if there is nothing to say.

    Args:
        kind: The engine's name for it; an unknown kind of another version is shown by its text, or by its name.
        seconds: How long it has lasted, or until it ends; None if unknown.
        text: Words that belong to it, such as `429`, or empty.
    """
    if kind is None:
        return None
    counted = "" if seconds is None else duration(seconds)
    known = {
        "connecting": "connecting",
        "verifying": "verifying",
        "finalizing": "finalizing",
        "comparing": "comparing with files on this disk",
        "copying": "copying from files on this disk",
        "stalled": f"stalled for {counted}" if counted else "stalled",
        "retrying": f"retrying in {counted or 'a moment'}{f' ({text})' if text else ''}",
        "waiting": text or "another process is downloading this file",
        "linked": text or "linked to an identical file",
        "offline": f"waiting for the network{f' since {text}' if text else ''}",
        "silent": f"the download process does not answer ({counted}){f': {text}' if text else ''}",
        "hours": f"waiting until {text}",
    }
    return kind, known.get(kind, text or kind)


def reused(reused_bytes: int, total_bytes: int | None, names: Sequence[str]) -> Notice:
    """How much was copied instead of downloaded: `13.2 GB of 17.0 GB taken from Q4_K_M on this disk`."""
    sources = " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    if not 0 < len(names) <= _MOST_NAMES:
        sources = plural(len(names), "file") if names else "files"
    return "reused", f"{amount(reused_bytes, total_bytes)} taken from {sources} on this disk"
