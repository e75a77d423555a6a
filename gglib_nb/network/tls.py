"""Which certificates are trusted: one TLS context for the hub client and the engine.

As in httpx: `SSL_CERT_FILE`, `SSL_CERT_DIR`, else the system's certificates, else those of certifi. Also those of
`REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`, which httpx ignores. Imports neither httpx nor huggingface_hub: the engine's
start waits.
"""

import contextlib
import os
import ssl
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Final

from gglib_nb.errors import InvalidConfigError

_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", *_BUNDLES)
_lock = threading.Lock()


def tls_context() -> ssl.SSLContext:
    """The context for the present environment; raises `InvalidConfigError` if a variable names no certificates."""
    with _lock:
        return _made(tuple(os.environ.get(name, "").strip() for name in _VARIABLES))


@cache
def _made(named: tuple[str, ...]) -> ssl.SSLContext:
    """Created once for each environment: reading the certificates takes a tenth of a second."""
    by_variable = dict(zip(_VARIABLES, named, strict=True))
    try:
        context = _context(by_variable["SSL_CERT_FILE"], by_variable["SSL_CERT_DIR"])
        bundle = next((by_variable[name] for name in _BUNDLES if by_variable[name]), None)
        if bundle is not None:
            is_folder = Path(bundle).is_dir()
            context.load_verify_locations(capath=bundle if is_folder else None, cafile=None if is_folder else bundle)
    except OSError as error:
        if error.filename and error.filename == os.environ.get("SSLKEYLOGFILE"):
            raise InvalidConfigError(
                f"The file set as SSLKEYLOGFILE ({error.filename}) cannot be written: {error.strerror}. Unset it, or "
                "set it to another file, then restart the kernel."
            ) from error
        places = ", ".join(f"{name}={place}" for name, place in by_variable.items() if place)
        raise InvalidConfigError(
            f"The certificates set in the environment ({places}) cannot be read: {error.strerror or error}. "
            "Set it to a PEM file, then restart the kernel."
        ) from error
    return context


def _context(file: str, folder: str) -> ssl.SSLContext:
    if file or folder:
        return ssl.create_default_context(cafile=file or None, capath=None if file else folder)
    with contextlib.suppress(ImportError):
        if sys.platform in ("darwin", "win32"):  # OpenSSL cannot read these systems' certificates from a file
            import truststore

            return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.create_default_context()
    folder = ssl.get_default_verify_paths().capath  # OpenSSL looks certificates up by a hash of their name
    has_folder = bool(folder) and any(Path(folder).glob("[0-9a-f]*.[0-9]"))
    if not context.cert_store_stats()["x509_ca"] and not has_folder:
        with contextlib.suppress(ImportError):
            import certifi

            context.load_verify_locations(cafile=certifi.where())
    return context
