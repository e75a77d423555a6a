"""Tokens are taken out of every text that comes from outside, whoever put them there. Pure."""

import re
from typing import Final

HIDDEN: Final = "…"

# Of the Hub, of logins (JSON web tokens), and whatever follows the word that announces one.
_TOKENS: Final = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9_]{6,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*|(?<=Bearer )\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",
    re.IGNORECASE,
)


def redacted(text: str, secret: str | None = None) -> str:
    """The text without what looks like a token or a password in an address, and without `secret` where one is known."""
    if secret:
        text = text.replace(secret, HIDDEN)
    return _TOKENS.sub(HIDDEN, text)
