"""Text streams as they are found: a user's logger, another kernel's stream, or a terminal that is not UTF-8.

Nothing but `write` is taken for granted.
"""

from typing import Any, Final

# What our own texts hold, in ASCII; every other character that an encoding lacks becomes a question mark.
_PLAIN: Final = str.maketrans(
    {
        "·": "-",
        "—": "-",
        "…": "...",
        "█": "#",
        "░": ".",
        "★": "*",
        "✓": "yes:",
        "▲": "^",
        "▼": "v",
        "\N{NO-BREAK SPACE}": " ",
    }
)


def is_terminal(stream: Any) -> bool:  # noqa: ANN401 - whatever took the place of `sys.stdout`
    """Whether it is a terminal; False where it cannot say."""
    try:
        return bool(stream.isatty())
    except (AttributeError, OSError, ValueError):  # it has no such method, or is closed
        return False


def is_open(stream: Any) -> bool:  # noqa: ANN401 - as above
    """Whether something can be written to it."""
    return stream is not None and not getattr(stream, "closed", False)


def encodable(text: str, stream: Any) -> str:  # noqa: ANN401 - as above
    """The text with the characters that the stream's encoding lacks replaced."""
    encoding = getattr(stream, "encoding", None)
    if not isinstance(encoding, str):
        return text
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    except LookupError:  # an encoding that Python does not know
        return text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")
    return text


def write(stream: Any, text: str) -> None:  # noqa: ANN401 - as above
    """Writes a text and flushes it."""
    stream.write(encodable(text, stream))
    if hasattr(stream, "flush"):
        stream.flush()
