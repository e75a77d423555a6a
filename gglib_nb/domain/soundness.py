"""What a user should know of a finished model before loading it. Pure: facts of headers in, one sentence out."""

from collections.abc import Iterable
from typing import Final

from gglib_nb.domain.model import Model
from gglib_nb.domain.printable import printable

# Architectures that embed text and have no chat (llama.cpp, src/llama-arch.cpp).
_EMBEDDING: Final = frozenset(
    {"bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
     "gemma-embedding", "t5encoder", "clip", "wavtokenizer-dec"}
)  # fmt: skip


def remark_on(model: Model, others: Iterable[Model]) -> str:
    """What is odd about a model's content, as one line; empty if nothing is.

    Args:
        model: As it is registered.
        others: The other registered models; those of the same repository and commit are compared with it.
    """
    facts = model.facts
    if not facts:
        return "it is not a GGUF file that can be read"
    if isinstance(names := facts.get("template_introspection"), str) and names:
        return printable(
            f"its chat template uses Python introspection ({names}): load it only where templates are sandboxed"
        )
    template = facts.get("chat_template_sha256")
    if template is None:
        is_chat = facts.get("has_chat_template") is False and facts.get("architecture") not in _EMBEDDING
        return "it has no chat template" if is_chat else ""
    for other in others:
        if other.id.repo_id != model.id.repo_id or other.commit_sha != model.commit_sha or other.id == model.id:
            continue
        if other.facts.get("chat_template_sha256") not in (None, template):
            return printable(f"its chat template differs from that of {other.label or other.id}")
    return ""
