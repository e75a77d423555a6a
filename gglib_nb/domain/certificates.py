"""What it means to a person when a certificate is refused: one map, for listing in the kernel and for the engine.

Pure: the TLS library's words go in, since neither httpx nor `ssl` keeps more of the reason everywhere.
"""

from typing import Final

_WRONG_TIME: Final = ("has expired", "not yet valid")
_WRONG_NAME: Final = ("ostname mismatch", "IP address mismatch", "doesn't match")


def is_certificate_trouble(text: str) -> bool:
    """Whether an error's text is about a certificate."""
    return "CERTIFICATE_VERIFY_FAILED" in text


def certificate_advice(host: str, text: str) -> str:
    """What is wrong with a server's certificate, and what to do.

    Args:
        host: The server's name.
        text: What the TLS library said.
    """
    if any(words in text for words in _WRONG_TIME):
        return (
            f"The certificate of {host} has expired or is not valid yet. Look at this computer's clock; "
            "if it is right, try again when the certificate was renewed."
        )
    if any(words in text for words in _WRONG_NAME):
        return (
            f"The server at {host} shows a certificate for another name. Look at HF_ENDPOINT, at the proxy, and whether the "
            "network wants a login."
        )
    return (
        f"The certificate of {host} is not trusted. Behind a proxy that opens TLS, name its authority in SSL_CERT_FILE or "
        "REQUESTS_CA_BUNDLE and restart."
    )
