"""User-visible texts: the golden texts, and words that no text may contain.

After a change: `python tools/words.py --store`, and read the diff aloud.
"""

import re
from pathlib import Path

from tools import words

GOLDEN = Path(__file__).resolve().parents[1] / "golden.txt"
# Programs are not persons, and things do not lie, stand, go or come.
BANNED = re.compile(
    r"\b(?:is gone|lies? about|lying about|goes on|go on with|came of|comes of it|took up|takes? up|mend(?:ed|ing)?"
    r"|nobody|somebody|whoever|thrown away|in circles?|again and again|anew|fetch(?:ed|es)? along|for everybody)\b",
    re.IGNORECASE,
)


def test_the_golden_texts_match() -> None:
    assert GOLDEN.read_text(encoding="utf-8") == words.golden(), "run: python tools/words.py --store"


def test_no_user_text_contains_banned_words() -> None:
    banned = {module: [text for text in texts if BANNED.search(text)] for module, texts in words.sentences()}

    assert {module: texts for module, texts in banned.items() if texts} == {}
