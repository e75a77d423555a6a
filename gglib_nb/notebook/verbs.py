"""All verbs of `%gguf`, and the parser of lines. A new verb is one function in one of the modules imported here."""

from typing import Final

from gglib_nb.domain.printable import printable
from gglib_nb.notebook import get_verbs, model_verbs, queue_verbs, setting_verbs
from gglib_nb.notebook.verb import VERBS, Call, GrammarError, split_words

MODULES: Final = (get_verbs, queue_verbs, model_verbs, setting_verbs)
_HELP: Final = ("-h", "--help")


def parse(line: str) -> Call:
    """Parses the text after `%gguf`; an empty line shows the panel.

    Raises:
        GrammarError: The line cannot be parsed; the message has the correct form.
    """
    name, *rest = split_words(line) or ["panel"]
    if name in _HELP:
        return Call(VERBS["help"], {})
    if name not in VERBS:
        raise GrammarError(printable(setting_verbs.unknown_verb(name)))
    if not set(_HELP).isdisjoint(rest):
        return Call(VERBS["help"], {"name": name})
    return VERBS[name].read(rest)
