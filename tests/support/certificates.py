"""A company's own certificate authority, and its certificates for servers on this machine."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import trustme


class Company:
    """An authority that is not trusted by default.

    Attributes:
        bundle: File with its own certificate, for `SSL_CERT_FILE` and the like.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA(organization_name="A company")
        self.bundle = folder / "company.pem"
        self._authority.cert_pem.write_to_path(str(self.bundle))

    def server(self, *names: str) -> ssl.SSLContext:
        """The TLS context of a loopback server, also valid for these names."""
        return _context(self._authority.issue_cert("127.0.0.1", "::1", "localhost", *names))

    def expired(self) -> ssl.SSLContext:
        """The TLS context of a loopback server with an expired certificate."""
        began, ended = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
        return _context(self._authority.issue_cert("localhost", not_before=began, not_after=ended))

    def of_another_name(self) -> ssl.SSLContext:
        """The TLS context of a server with another name."""
        return _context(self._authority.issue_cert("elsewhere.example"))


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
