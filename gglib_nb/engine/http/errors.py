"""What can go wrong in one exchange, one class for each thing that follows from it.

An exchange is one request and its answer. None of these reaches a user: `engine.transfer.retry` decides whether to
try again, to resolve again, or to end with an error of `gglib_nb.errors`, where also stands what ends a transfer at once.
"""

from typing import Final
from urllib.parse import urlsplit

from gglib_nb.domain.hub_answers import certificate_refusal, proxy_refusal
from gglib_nb.domain.secrets import redacted
from gglib_nb.errors import InvalidConfigError
from gglib_nb.network.proxies import is_final, refused_status

STALLED: Final = "stalled"
"""Text of a `LineError`: the connection stands and nothing comes."""


class ExchangeError(Exception):
    """One exchange did not bring what it should; whoever runs the transfer decides what follows."""


class LineError(ExchangeError):
    """The connection could not be made, broke, or ended early."""


class BusyError(ExchangeError):
    """The server asks to come back later.

    Attributes:
        status: HTTP status.
        wait_s: Seconds it asks to wait; None where it does not say.
    """

    def __init__(self, status: int, wait_s: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.wait_s = wait_s


class ExpiredUrlError(ExchangeError):
    """The CDN refuses the signed URL; the hub gives another."""


class MovedError(ExchangeError):
    """The file is served from elsewhere.

    Attributes:
        location: As in the answer; may be relative.
    """

    def __init__(self, location: str) -> None:
        super().__init__("redirected")
        self.location = location


class RangeIgnoredError(ExchangeError):
    """The server sends the whole file whatever is asked for."""


class WrongAnswerError(ExchangeError):
    """The answer is not the range that was asked for."""


def line_error(error: Exception, url: str) -> LineError | InvalidConfigError:
    """What a broken exchange means, in a few words without the URL, which may be signed.

    What does not pass by itself ends the transfer: a certificate that is not trusted, a proxy that refuses us.
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    host = urlsplit(url).netloc
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return certificate_refusal(host, text)
    if (status := refused_status(error)) is not None:
        return proxy_refusal(host, status) if is_final(status) else LineError(f"the proxy answered {status}")
    if isinstance(error, TimeoutError):
        return LineError("timed out")
    return LineError(redacted(text.split("\n", 1)[0])[:120] or type(error).__name__)
