"""Which origins get the token, which certificates are trusted, how an address becomes a URL."""

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gglib_nb.domain.download import PlannedFile
from gglib_nb.domain.hub_answers import Asked
from gglib_nb.engine.http import Connection, Session
from gglib_nb.engine.protocol import Configure
from gglib_nb.engine.resolve import resolve
from gglib_nb.engine.timeouts import Timeouts
from gglib_nb.errors import InvalidConfigError


def session(endpoint: str = "https://hub.example/", token: str | None = "hf_secret") -> Session:
    return Session(Configure(endpoint, token, None, 1, (), "gglib-nb/test"), Timeouts(connect_s=2, answer_s=2))


@pytest.mark.parametrize(
    "url",
    [
        "https://hub.example/x",
        "https://hub.example:443/x",
        "https://HUB.example/x?y",
    ],
)
def test_the_token_is_sent_to_the_hubs_origin(url) -> None:
    assert session().headers_for(url)["Authorization"] == "Bearer hf_secret"


@pytest.mark.parametrize(
    "url",
    [
        "http://hub.example/x",
        "https://hub.example:444/x",
        "https://cdn.hub.example/x",
        "https://hub.example.evil.org/x",
        "https://hub.example@evil.org/x",
    ],
)
def test_the_token_is_sent_to_no_other_origin(url) -> None:
    assert "Authorization" not in session().headers_for(url)


def test_a_repr_never_contains_the_token() -> None:
    assert "hf_secret" not in repr(Configure("https://hub.example", "hf_secret", None, 4, (), "x"))
    assert "hf_secret" not in repr(session())


def test_names_are_quoted_in_urls_and_slashes_are_kept() -> None:
    address = Asked("https://hub.example", "a/b", "c0ffee", "sub folder/müde#1?.gguf")

    assert address.file_url == "https://hub.example/a/b/resolve/c0ffee/sub%20folder/m%C3%BCde%231%3F.gguf"


def test_a_connection_is_not_used_again_after_an_error(monkeypatch) -> None:
    """What it left unread would count as the answer to the next request."""
    used: list[Connection] = []

    def exchange(connection: Connection, *_args: object) -> None:
        used.append(connection)
        raise MemoryError

    monkeypatch.setattr(Connection, "exchange", exchange)
    one = session()

    for _ in range(2):
        with pytest.raises(MemoryError):
            one.head("https://hub.example/x", {})

    assert used[0] is not used[1]


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture
def tls_server(certificate):
    server = HTTPServer(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_certificates_in_requests_ca_bundle_are_trusted(tls_server, certificate, monkeypatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    connection = Connection(session(tls_server))
    buffer = memoryview(bytearray(10))

    answer = connection.request(f"{tls_server}/x")

    assert bytes(buffer[: answer.readinto(buffer)]) == b"ok"
    connection.close()


def test_an_untrusted_certificate_ends_the_transfer_with_advice(tls_server) -> None:
    with pytest.raises(InvalidConfigError, match="SSL_CERT_FILE"):
        Connection(session(tls_server)).request(f"{tls_server}/x?Signature=secret")


def test_an_untrusted_hub_certificate_gives_the_same_advice(tls_server) -> None:
    one = session(tls_server)
    address = Asked(tls_server, "a/b", "c" * 40, "m.gguf")

    with pytest.raises(InvalidConfigError, match=r"127\.0\.0\.1"):
        resolve(one, address, PlannedFile("m.gguf", 1, None, "/m.gguf"))
    one.close()
