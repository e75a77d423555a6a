"""Which proxy is used for an address: the variables in all their spellings."""

import pytest

from gglib_nb.network.proxies import Proxy, proxy_for

PROXY = "http://proxy.example:3128"


def proxy_with(url: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return proxy_for(url)


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        ("https://hub.example/x", {}, None),
        ("https://hub.example/x", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://hub.example/x", {"https_proxy": PROXY}, PROXY),
        ("http://hub.example/x", {"HTTPS_PROXY": PROXY}, None),
        ("http://hub.example/x", {"http_proxy": PROXY}, PROXY),
        ("https://hub.example/x", {"ALL_PROXY": PROXY}, PROXY),
        ("https://hub.example/x", {"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, PROXY),
        ("https://hub.example/x", {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        ("https://hub.example/x", {"HTTPS_PROXY": ""}, None),
        ("https://hub.example/x", {"HTTPS_PROXY": " "}, None),
        ("https://hub.example/x", {"HTTPS_PROXY": f" {PROXY}\r"}, PROXY),  # from a file with Windows line ends
    ],
)
def test_a_proxy_is_chosen_by_scheme_or_applies_to_all(url, variables, expected, monkeypatch) -> None:
    assert proxy_with(url, monkeypatch, **variables) == expected


@pytest.mark.parametrize(
    ("exempt", "url", "is_direct"),
    [
        ("*", "https://hub.example/x", True),
        ("hub.example", "https://hub.example/x", True),
        ("HUB.example", "https://hub.example/x", True),
        ("example", "https://hub.example/x", True),
        (".example", "https://hub.example/x", True),
        ("*.example", "https://hub.example/x", True),
        ("*.example", "https://example/x", False),
        ("ub.example", "https://hub.example/x", False),
        ("hub.example:8443", "https://hub.example:8443/x", True),
        ("hub.example:8443", "https://hub.example/x", False),
        ("a, hub.example ,b", "https://hub.example/x", True),
        ("localhost hub.example 10.0.0.0/8", "https://hub.example/x", True),
        ("localhost .example", "https://hub.example/x", True),
        ("localhost hub.example", "https://other.example/x", False),
        ("10.0.0.0/8", "https://10.20.30.40/x", True),
        ("10.0.0.0/8", "https://11.20.30.40/x", False),
        ("10.0.0.0/8", "https://hub.example/x", False),
        ("::1", "https://[::1]:8443/x", True),
        ("[::1]", "https://[::1]/x", True),
        ("fd00::/8", "https://[fd00::7]/x", True),
        ("[::1]:8443", "https://[::1]:8443/x", True),
        ("[::1]:8443", "https://[::1]/x", False),
        ("*.example:8443", "https://hub.example:8443/x", True),
        ("*.example:8443", "https://hub.example/x", False),
        ("", "https://hub.example/x", False),
    ],
)
def test_hosts_in_no_proxy_are_reached_directly(exempt, url, is_direct, monkeypatch) -> None:
    found = proxy_with(url, monkeypatch, HTTPS_PROXY=PROXY, NO_PROXY=exempt)

    assert found == (None if is_direct else PROXY)


def test_a_repr_never_contains_the_proxy_password() -> None:
    assert "s3cr3t" not in repr(Proxy.at("http://me:s3cr3t@proxy.example:3128"))


def test_the_zone_of_a_proxys_ipv6_address_may_be_quoted(monkeypatch) -> None:
    found = proxy_with("https://hub.example", monkeypatch, HTTPS_PROXY="http://me:a%25b@[fe80::1%25eth0]:3128")

    assert found is not None
    assert Proxy.at(found) == Proxy("http", "fe80::1%eth0", 3128, ("me", "a%b"))
