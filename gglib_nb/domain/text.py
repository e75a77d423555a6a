"""Makes foreign text safe to show: without control characters, tokens and signatures."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gglib_nb.errors import InvalidConfigError

# Categories of characters that move the cursor, start a terminal's escape sequence, or turn the direction of a line.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """Foreign text on one line, without characters that control a terminal."""
    if text.isprintable():
        return str(text)  # also of a subclass, which could not be sent to the page
    return "".join(" " if unicodedata.category(character) in _UNPRINTABLE else character for character in text)


def check_text(name: str, value: object) -> None:
    """Refuses anything but text with an `InvalidConfigError`; `name` is what it is."""
    if not isinstance(value, str):
        raise InvalidConfigError(f"{name} must be text, not {type(value).__name__}.")


def similar(text: str, choices: Iterable[str], most: int = 1, cutoff: float = 0.7) -> list[str]:
    """The choices with the most similar letters and digits, the most similar first."""
    import difflib  # rarely needed

    def squeezed(one: str) -> str:
        return re.sub(r"[\W_]", "", one.casefold())

    known = {squeezed(one): one for one in choices}
    return [known[one] for one in difflib.get_close_matches(squeezed(text), known, n=most, cutoff=cutoff)]


def did_you_mean(near: Sequence[str]) -> str:
    """A question that names similar choices, and a space; empty without any."""
    return f"Did you mean {' or '.join(near)}? " if near else ""


HIDDEN: Final = "…"
TOKEN_VARIABLES: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Environment variables that hold the Hub's token."""

INVALID_CHARACTER: Final = (
    "The token contains an invalid character, such as a quotation mark. Paste it again without it."
)

_SECRETS: Final = re.compile(
    r"\b(?-i:hf|api_org)_(?:\w{30,}|(?<![/\\]hf_)\w{6,})"  # of the Hub; not HF_HOME, nor the folder /data/hf_models
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # of logins: JSON web tokens
    r"|(?<=Bearer )\S+|(?<=Authorization: Basic )\S+"
    r"|(?<=://)(?!name:password@)[^/\s:@]+:[^/\s@]+(?=@)"  # name and password in an address, except in our hints
    # Signatures of signed addresses: of S3, CloudFront, Azure, Google.
    r"|(?<=[?&])(?:X-(?:Amz|Goog)-[\w-]+|Signature|Policy|Key-Pair-Id|Expires|sig|(?:access_)?token)=[^&\s'\"<>]+",
    re.IGNORECASE,
)


def redacted(text: str, secret: str | None = None) -> str:
    """The text without what looks like a token, a password or a signature in an address, and without `secret`."""
    if secret:
        text = text.replace(secret, HIDDEN)
    return _SECRETS.sub(HIDDEN, text)


def can_be_sent(token: str) -> bool:
    """Whether a header can carry this token; quotes come from an `.env` file. If not, `INVALID_CHARACTER` says so."""
    return all("!" <= character <= "~" and character not in "\"'" for character in token)


def without_tokens(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a child process that needs no token."""
    return {name: value for name, value in environment.items() if name not in TOKEN_VARIABLES}
