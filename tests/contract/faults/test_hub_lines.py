"""Hubs that cannot be reached: an unresolvable name, or a rejected certificate."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import close_session

from gglib_nb.errors import InvalidConfigError, NetworkError
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
from tests.support.certificates import Company
from tests.support.faulty_hub import FaultyHub
from tests.support.line import Line

QUICK = RetryPolicy(tries=2, first_wait_s=0.01, timeout_s=60)


def new_folder(place: Path) -> Path:
    folder = place / "other"
    folder.mkdir()
    return folder


@pytest.fixture
def company(tmp_path, monkeypatch) -> Iterator[Company]:
    """An authority that huggingface_hub's session trusts."""
    company = Company(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(company.bundle))
    close_session()
    yield company
    close_session()


def test_an_unresolvable_hub_name_is_reported() -> None:
    with pytest.raises(NetworkError, match=r"hub\.invalid cannot be reached; check the connection, HF_ENDPOINT"):
        HubClient("http://hub.invalid", retry_policy=QUICK).list_files("demo/small-GGUF")


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (Company.expired, "has expired or is not valid yet. Check this computer's clock"),
        (Company.of_another_name, "has a certificate for another name"),
        (lambda company: Company(new_folder(company.bundle.parent)).server(), "is not trusted"),
    ],
    ids=["expired", "of another name", "of an unknown authority"],
)
def test_a_rejected_hub_certificate_is_reported_with_the_reason(
    hub: FaultyHub, company: Company, server, text: str
) -> None:
    with Line(hub.url, server(company)) as line, pytest.raises(InvalidConfigError) as caught:
        HubClient(line.url, retry_policy=QUICK).list_files("demo/small-GGUF")

    assert text in str(caught.value)
    assert hub.requests == ()


def test_a_hub_signed_by_an_authority_in_ssl_cert_file_is_accepted(hub: FaultyHub, company: Company) -> None:
    with Line(hub.url, company.server()) as line:
        assert len(HubClient(line.url, retry_policy=QUICK).list_files("demo/small-GGUF").files) == 3
