"""Whose certificates are trusted: one TLS context for every client of ours.

Made as httpx makes its own (`SSL_CERT_FILE`, `SSL_CERT_DIR`, else the system's), with the authorities of
`REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE` added, since that is where a company's own certificate is often named and httpx does not
look there.
"""

import os
import ssl
import threading
from functools import cache
from pathlib import Path
from typing import Final

from gglib_nb.errors import InvalidConfigError

_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", *_BUNDLES)
_lock = threading.Lock()


def tls_context() -> ssl.SSLContext:
    """The context that the environment asks for now.

    Raises:
        InvalidConfigError: What a variable names is not there or holds no certificates.
    """
    with _lock:
        return _made(tuple(os.environ.get(name, "") for name in _VARIABLES))


@cache
def _made(named: tuple[str, ...]) -> ssl.SSLContext:
    """Made once for each environment: reading the certificates takes a tenth of a second."""
    from gglib_nb.network.http_library import httpx

    by_variable = dict(zip(_VARIABLES, named, strict=True))
    try:
        context = httpx.create_ssl_context()
        bundle = next((by_variable[name] for name in _BUNDLES if by_variable[name]), None)
        if bundle is not None:
            is_folder = Path(bundle).is_dir()
            context.load_verify_locations(capath=bundle if is_folder else None, cafile=None if is_folder else bundle)
    except OSError as error:
        places = ", ".join(f"{name}={place}" for name, place in by_variable.items() if place)
        raise InvalidConfigError(
            f"The certificates that the environment names ({places}) cannot be read: {error.strerror or error}. "
            "Name a file in PEM form, then restart the kernel."
        ) from error
    return context
