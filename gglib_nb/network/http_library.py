"""httpx as the installed huggingface_hub uses it, so that a client of the user's own can be shared.

That is httpx up to huggingface_hub 1.x (0.x uses requests, of which nothing is needed here), and httpx2, its successor under
another name, from 2.0 on.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub.utils import httpx
else:
    try:
        from huggingface_hub.utils import httpx
    except ImportError:  # before 1.31
        import httpx

__all__ = ["httpx"]
