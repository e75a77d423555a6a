"""Hubs that cannot be asked at all: nobody knows their name, or their certificate is refused."""

import pytest
from huggingface_hub.utils import close_session

from gglib_nb.demo import DemoHub
from gglib_nb.errors import InvalidConfigError, NetworkError
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import Patience
from tests.support.line import CERTIFICATES, Line

QUICK = Patience(tries=2, first_wait_s=0.01, timeout_s=5)


@pytest.fixture
def trusting(monkeypatch):
    """huggingface_hub's session with the tests' authority among those it trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATES / "authority.pem"))
    close_session()
    yield
    close_session()


def test_a_hub_whose_name_nobody_knows_is_named() -> None:
    with pytest.raises(NetworkError, match=r"hub\.invalid cannot be reached; check the connection, HF_ENDPOINT"):
        HubClient("http://hub.invalid", patience=QUICK).list_files("demo/small-GGUF")


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        ("expired", "has expired or is not valid yet. Look at this computer's clock"),
        ("elsewhere", "shows a certificate for another name"),
        ("self-signed", "is not trusted"),
    ],
)
def test_a_hub_whose_certificate_is_refused_says_why(hub: DemoHub, trusting, certificate: str, text: str) -> None:
    with Line(hub.url, certificate) as line, pytest.raises(InvalidConfigError) as caught:
        HubClient(line.url, patience=QUICK).list_files("demo/small-GGUF")

    assert text in str(caught.value)
    assert hub.requests == ()


def test_a_hub_of_an_authority_that_ssl_cert_file_names_is_listed(hub: DemoHub, trusting) -> None:
    with Line(hub.url, "right") as line:
        assert len(HubClient(line.url, patience=QUICK).list_files("demo/small-GGUF").files) == 3
