"""The one line that describes what a download is doing.

Written only here, so that the panel, the terminal and a program that reads the snapshot show the same words.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gglib_nb.domain.units import part

_Phrase = Callable[[str, str], str]
# A list of more names is too long to read.
_MOST_NAMES: Final = 3

_PHRASES: Final[Mapping[str, _Phrase]] = {
    "connecting": lambda _seconds, _text: "connecting",
    "stalled": lambda seconds, _text: f"stalled for {seconds}" if seconds else "stalled",
    "retrying": lambda seconds, text: f"retrying in {seconds or 'a moment'}" + (f" ({text})" if text else ""),
    "verifying": lambda _seconds, _text: "verifying",
    "finalizing": lambda _seconds, _text: "finalizing",
    "waiting": lambda _seconds, text: text or "another process is downloading this file",
    "offline": lambda _seconds, text: f"waiting for the network since {text}" if text else "waiting for the network",
    "silent": lambda seconds, text: f"the download process does not answer ({seconds})" + (f": {text}" if text else ""),
    "comparing": lambda _seconds, _text: "comparing with files on this disk",
    "copying": lambda _seconds, _text: "copying from files on this disk",
    "hours": lambda _seconds, text: f"waiting until {text}",
    "linked": lambda _seconds, text: text or "linked to an identical file",
}


def reused(reused_bytes: int, total_bytes: int | None, names: Sequence[str]) -> str:
    """How much was copied instead of downloaded: `13.2 of 17.0 GB taken from Q4_K_M on this disk`."""
    return f"{part(reused_bytes, total_bytes)} taken from {sources(names)} on this disk"


def sources(names: Sequence[str]) -> str:
    """The files that were copied from, by name, or by number if there are many."""
    if not names or len(names) > _MOST_NAMES:
        return f"{len(names)} files" if names else "files"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def notice_of(kind: str | None, seconds: float | None, text: str) -> tuple[str, str] | None:
    """Kind and sentence of a notice; None if there is nothing to say.

    Args:
        kind: The engine's name for it; an unknown kind of another version is shown by its text, or by its name.
        seconds: How long it has lasted, or until it ends; None if unknown.
        text: Words that belong to it, such as `429`, or empty.
    """
    if kind is None:
        return None
    counted = "" if seconds is None else f"{max(1, round(seconds))} s"
    if (phrase := _PHRASES.get(kind)) is None:
        return kind, text or kind
    return kind, phrase(counted, text)
