"""What a verb has to say, for a terminal and for a notebook."""

from dataclasses import dataclass

from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Answer:
    """What a verb has to say.

    Attributes:
        text: For a terminal, and the `text/plain` of a notebook.
        html: The same as static HTML; None where the text is all there is.
    """

    text: str
    html: str | None = None

    @override
    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str | None:
        return self.html
