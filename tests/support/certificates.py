"""A company's own certificate authority, and the certificates it gives to servers on this machine."""

import ssl
from pathlib import Path

import trustme


class Company:
    """An authority that nobody trusts unless told to.

    Attributes:
        bundle: File with its own certificate, for `SSL_CERT_FILE` and the like.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA(organization_name="A company")
        self.bundle = folder / "company.pem"
        self._authority.cert_pem.write_to_path(str(self.bundle))

    def server(self, *names: str) -> ssl.SSLContext:
        """What a server on loopback needs to speak HTTPS under these names too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1", "::1", "localhost", *names).configure_cert(context)
        return context
