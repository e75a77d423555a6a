"""Long listings in pages: which rows a request gets and where the next ones are."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from gglib_nb.demo.messages import Request

Row = TypeVar("Row")


def page_of(
    request: Request, rows: Sequence[Row], page_size: int, origin_url: str
) -> tuple[Sequence[Row], dict[str, str]]:
    """Cut out the page a request asks for by `limit` and `cursor`.

    Returns:
        The rows, and the headers to send: `Link` with the absolute URL of the next page unless this is the last.

    Raises:
        ValueError: the limit is no number, or the cursor none of ours.
    """
    query = request.query
    limit = min(page_size, int(query["limit"][0])) if "limit" in query else page_size
    start = int(urlsafe_b64decode(query["cursor"][0])) if "cursor" in query else 0
    end = start + max(1, limit)
    if end >= len(rows):
        return rows[start:end], {}
    cursor = urlsafe_b64encode(str(end).encode()).decode()
    following = urlencode({**query, "cursor": [cursor]}, doseq=True)
    return rows[start:end], {"Link": f'<{origin_url}{request.path}?{following}>; rel="next"'}
