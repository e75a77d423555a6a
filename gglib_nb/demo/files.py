"""Answers that carry the bytes of a file: whole, a range of it, or the news that there is no such range.

Shared by the CDN and by the Hub's own answers for small files. Knows no routes.
"""

from dataclasses import replace

from gglib_nb.demo.messages import ByteRange, Request, Response, text_response
from gglib_nb.demo.repositories import Located


def file_response(request: Request, subject: Located, etag: str) -> Response:
    """Answer a request for a file with 200, 206 or 416, as its `Range` header asks.

    Args:
        request: what was asked.
        subject: the file.
        etag: the value of `ETag` with its quotes.
    """
    size_bytes = subject.file.size_bytes
    if request.range is None:
        return whole_file(subject, etag)
    span = resolve_range(request.range, size_bytes)
    if span is None:
        return range_not_satisfiable(subject)
    first, length = span
    response = _with_bytes(206, subject, first, length, etag)
    return response.having(Content_Range=f"bytes {first}-{first + length - 1}/{size_bytes}")


def whole_file(subject: Located, etag: str) -> Response:
    """A 200 with the whole file."""
    return _with_bytes(200, subject, 0, subject.file.size_bytes, etag)


def range_not_satisfiable(subject: Located) -> Response:
    """A 416 that tells the size."""
    body = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InvalidRange</Code></Error>'
    response = text_response(416, body, "application/xml").having(Content_Range=f"bytes */{subject.file.size_bytes}")
    return replace(response, subject=subject)


def resolve_range(wanted: ByteRange, size_bytes: int) -> tuple[int, int] | None:
    """Turn a requested range into (offset, length); `None` where no byte of the file is in it."""
    first, last = wanted
    if first is None:
        first, last = max(0, size_bytes - (last or 0)), size_bytes - 1
    last = size_bytes - 1 if last is None else min(last, size_bytes - 1)
    return (first, last - first + 1) if first <= last else None


def _with_bytes(status: int, subject: Located, offset: int, length: int, etag: str) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": etag},
        content=subject.file.content,
        offset=offset,
        length=length,
        subject=subject,
    )
