"""Behind a proxy with a company's own certificates: a real CONNECT proxy and a hub over TLS, for listing and downloading."""

import gc
import shutil
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

from gglib_nb import DownloadManagerConfig
from gglib_nb.demo import DemoRepository
from gglib_nb.domain.reports import TransferFailed
from gglib_nb.errors import CertificateError, GglibError, InvalidConfigError, ProxyError, RepoNotFoundError
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.transport import RetryPolicy
from gglib_nb.network.client import close_shared_client, httpx, shared_client
from gglib_nb.network.tls import tls_context
from tests.support.certificates import Company
from tests.support.engine import LocalEngine
from tests.support.faulty_hub import FaultyHub
from tests.support.hub import make_repository
from tests.support.odd_server import OddServer, answering, response
from tests.support.proxy import FewTunnels, ProxyProcess

REPO = "demo/small-GGUF"
NAME = "small-Q4_K_M.gguf"
LOGIN = "me:s3cret"


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Company:
    return Company(tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="module")
def proxies(tmp_path_factory) -> Iterator[Callable[..., ProxyProcess]]:
    """A proxy for each set of arguments, kept for all tests of this file."""
    made: dict[str, ProxyProcess] = {}
    with ExitStack() as stack:

        def make(**options) -> ProxyProcess:
            key = repr(sorted(options.items()))
            if key not in made:
                made[key] = stack.enter_context(ProxyProcess(tmp_path_factory.mktemp("proxy"), **options))
            return made[key]

        yield make


@pytest.fixture
def repositories() -> list[DemoRepository]:
    return [make_repository(REPO, {NAME: 3_000_000})]


@pytest.fixture
def hub(make_hub, repositories, company) -> FaultyHub:
    return make_hub(repositories, tls=company.server())


@pytest.fixture(autouse=True)
def own_connections() -> Iterator[None]:
    yield
    close_shared_client()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def trust(monkeypatch, company: Company, variable: str = "SSL_CERT_FILE") -> None:
    monkeypatch.setenv(variable, str(company.bundle))


def listing_error(endpoint: str) -> GglibError:
    with pytest.raises(GglibError) as caught:
        HubClient(endpoint, retry_policy=RetryPolicy(tries=2, first_wait_s=0.01)).list_files(REPO)
    return caught.value


def download_failure(hub: FaultyHub, folder: Path, **changes) -> TransferFailed:
    engine = LocalEngine(hub, folder, **changes)
    end = engine.log.end_of(engine.begin(REPO, NAME))
    engine.close()
    assert isinstance(end, TransferFailed), end
    return end


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_model_is_downloaded_through_a_proxy_with_a_password_and_company_certificates(
    hub, proxies, company, make_manager, monkeypatch, variable
) -> None:
    proxy = proxies(login=LOGIN)
    trust(monkeypatch, company, variable)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    manager = make_manager()

    path = manager.sync.download(REPO)
    manager.sync.close()
    close_shared_client()

    assert path.stat().st_size == 3_000_000
    assert {port_of(hub.url), port_of(hub.cdn_url)} <= proxy.wait_for_ports({port_of(hub.url), port_of(hub.cdn_url)})


@pytest.mark.slow
def test_hosts_in_no_proxy_are_reached_directly_and_others_through_the_proxy(
    hub, proxies, company, make_manager, monkeypatch
) -> None:
    proxy = proxies(login=LOGIN)
    trust(monkeypatch, company)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", f"example.org, 127.0.0.1:{port_of(hub.url)}")
    manager = make_manager()

    manager.sync.download(REPO)
    manager.sync.close()
    close_shared_client()

    assert port_of(hub.url) not in proxy.wait_for_ports({port_of(hub.cdn_url)})


@pytest.mark.parametrize("login", [None, "me:wrong"])
def test_a_proxy_that_requires_a_password_is_reported_by_listing_and_download(
    hub, proxies, company, tmp_path, monkeypatch, login
) -> None:
    trust(monkeypatch, company)
    monkeypatch.setenv("HTTPS_PROXY", proxies(login=LOGIN).url_with(login))

    listing = listing_error(hub.url)
    failed = download_failure(hub, tmp_path)
    downloading = failed.error

    assert isinstance(listing, ProxyError)
    assert isinstance(downloading, ProxyError)
    assert "asks for a user name and password (407)" in str(listing)
    assert str(downloading) == str(listing)
    assert not failed.can_retry
    assert "wrong" not in str(listing)


def test_over_plain_http_a_407_is_attributed_to_the_proxy(
    make_hub, repositories, proxies, tmp_path, monkeypatch
) -> None:
    hub = make_hub(repositories)
    proxy = proxies(login=LOGIN)
    monkeypatch.setenv("HTTP_PROXY", proxy.url_with(None))

    assert "(407)" in str(listing_error(hub.url))
    assert "(407)" in str(download_failure(hub, tmp_path).error)
    # Only the storage is behind the proxy.
    monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{port_of(hub.url)}")
    error = download_failure(hub, tmp_path).error
    assert f"for 127.0.0.1:{port_of(hub.cdn_url)} asks for a user name and password" in str(error)


def test_a_page_of_refusal_is_attributed_to_the_proxy_and_not_to_the_token(hub, tmp_path, monkeypatch) -> None:
    proxy: list[OddServer] = []
    page = response("403 Forbidden", b"<html>This site is blocked.", content_type="text/html; charset=utf-8")
    with OddServer(answering(proxy, page)) as server:
        proxy.append(server)
        monkeypatch.setenv("HTTP_PROXY", server.url)
        monkeypatch.setenv("HF_TOKEN", "hf_x")

        listing = listing_error("http://hub.example")
        downloading = download_failure(hub, tmp_path, endpoint="http://hub.example").error

    assert isinstance(listing, ProxyError)
    assert "A proxy or firewall refuses connections to http://hub.example (403)" in str(listing)
    assert str(downloading) == str(listing)


def test_a_client_closed_while_it_connects_leaves_no_open_connection(company, monkeypatch) -> None:
    trust(monkeypatch, company)
    is_connecting, is_closed, tls = threading.Event(), threading.Event(), company.server()

    def serve(connection: socket.socket) -> None:
        is_connecting.set()
        is_closed.wait(30)
        with tls.wrap_socket(connection, server_side=True) as secure:
            server.ask(secure)
            secure.sendall(response(body=b"{}"))
            secure.recv(1)

    with OddServer(serve) as server, warnings.catch_warnings(record=True) as warned, ThreadPoolExecutor(1) as pool:
        warnings.simplefilter("always")
        answer = pool.submit(shared_client().get, server.url.replace("http", "https"), timeout=30)
        assert is_connecting.wait(30)
        close_shared_client()
        is_closed.set()
        with pytest.raises(httpx.ReadError):
            answer.result(timeout=60)
        del answer
        gc.collect()

    assert [str(one.message) for one in warned] == []


def test_a_client_closed_while_it_looks_up_a_name_leaves_no_open_connection(monkeypatch) -> None:
    look_up = socket.getaddrinfo

    def closing_first(*args: Any, **kwargs: Any) -> Any:
        close_shared_client()
        return look_up(*args, **kwargs)

    server: list[OddServer] = []
    with OddServer(answering(server, response(body=b"{}"))) as one, warnings.catch_warnings(record=True) as warned:
        server.append(one)
        warnings.simplefilter("always")
        client = shared_client()
        monkeypatch.setattr(socket, "getaddrinfo", closing_first)
        with pytest.raises(httpx.ReadError):
            client.get(one.url, timeout=30)
        del client
        gc.collect()

    assert [str(one.message) for one in warned] == []


def test_an_international_host_name_is_the_hub_s_own(tmp_path, monkeypatch) -> None:
    proxy: list[OddServer] = []
    with OddServer(answering(proxy, response("404 Not Found", b"{}", x_error_code="RepoNotFound"))) as server:
        proxy.append(server)
        monkeypatch.setenv("HTTP_PROXY", server.url)
        config = DownloadManagerConfig(endpoint="http://b\u00fccher.example/")

        assert isinstance(listing_error(config.endpoint), RepoNotFoundError)
    assert "\r\nhost: xn--bcher-kva.example\r\n" in server.requests[0].lower()


def test_a_proxy_that_blocks_the_storage_host_is_reported_with_the_host(
    make_hub, repositories, proxies, company, tmp_path, monkeypatch
) -> None:
    """Companies allow huggingface.co and forget the storage host."""
    hub = make_hub(repositories, tls=company.server())
    trust(monkeypatch, company)
    monkeypatch.setenv("HTTPS_PROXY", proxies(closed_to="127.0.0.1").url)
    endpoint = hub.url.replace("127.0.0.1", "localhost")

    HubClient(endpoint).list_files(REPO)
    failed = download_failure(hub, tmp_path, endpoint=endpoint)

    text = str(failed.error)
    assert f"A proxy or firewall refuses connections to 127.0.0.1:{port_of(hub.cdn_url)} (" in text
    assert not failed.can_retry
    assert "Signature" not in text


@pytest.mark.slow
@pytest.mark.parametrize("refusal", ["403 Forbidden", "407 Proxy Authentication Required", "503 Service Unavailable"])
@pytest.mark.parametrize("most", [1, 3])
def test_a_proxy_that_allows_few_tunnels_is_used_with_few_connections(
    make_hub, company, tmp_path, monkeypatch, most, refusal
) -> None:
    names = [f"m-{number:05}-of-00002.gguf" for number in (1, 2)]
    hub = make_hub([make_repository(REPO, dict.fromkeys(names, 20_000_000))], tls=company.server())
    hub.set_speed(per_connection=8_000_000)
    trust(monkeypatch, company)
    with FewTunnels(most, refusal) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        engine = LocalEngine(hub, tmp_path)

        assert all(file.is_verified for file in engine.fetch(REPO, *names).files)

        engine.close()
    assert 0 < proxy.refusals <= 30


@pytest.mark.slow
def test_a_proxy_may_count_a_tunnel_for_a_while_after_its_end(make_hub, company, tmp_path, monkeypatch) -> None:
    hub = make_hub([make_repository(REPO, {"m.gguf": 20_000_000})], tls=company.server())
    trust(monkeypatch, company)
    with FewTunnels(1, "407 Proxy Authentication Required", counted_s=2.5) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        engine = LocalEngine(hub, tmp_path)

        assert all(file.is_verified for file in engine.fetch(REPO, "m.gguf").files)

        engine.close()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_proxy_reached_over_tls_may_have_the_companys_certificate(company, monkeypatch, variable) -> None:
    def serve(plain: socket.socket) -> None:
        with company.server().wrap_socket(plain, server_side=True) as connection:
            proxy.ask(connection)
            connection.sendall(response(body=b"[]"))

    trust(monkeypatch, company, variable)
    with OddServer(serve) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http:", "https:"))

        assert HubClient("http://hub.example", retry_policy=RetryPolicy(tries=1)).search("x") == []

    assert proxy.requests[0].startswith("GET http://hub.example/api/models?")


def test_without_the_companys_certificate_listing_and_download_say_where_to_set_it(hub, tmp_path) -> None:
    listing = listing_error(hub.url)
    failed = download_failure(hub, tmp_path)

    assert str(listing).startswith(f"The certificate of 127.0.0.1:{port_of(hub.url)} is not trusted.")
    assert isinstance(listing, CertificateError)
    assert str(failed.error) == str(listing)
    assert not failed.can_retry


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_missing_certificate_file_is_reported_by_name(hub, tmp_path, monkeypatch, variable) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "gone.pem"))

    listing = listing_error(hub.url)
    downloading = download_failure(hub, tmp_path).error

    assert isinstance(listing, InvalidConfigError)
    assert f"{variable}={tmp_path}/gone.pem" in str(listing)
    assert str(downloading) == str(listing)


def test_whitespace_around_the_name_of_a_certificate_file_is_ignored(company, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{company.bundle}\r")  # from a file with Windows line ends

    assert tls_context().cert_store_stats()["x509_ca"] == 1


def test_a_file_for_tls_keys_that_cannot_be_written_is_not_reported_as_certificates(
    hub, company, tmp_path, monkeypatch
) -> None:
    shutil.copy(company.bundle, tmp_path / "own.pem")  # a context that no test has created before
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "gone" / "keys"))

    listing = listing_error(hub.url)

    assert f"SSLKEYLOGFILE ({tmp_path}/gone/keys) cannot be written" in str(listing)
    assert str(download_failure(hub, tmp_path).error) == str(listing)


def test_a_file_without_certificates_is_reported(hub, tmp_path, monkeypatch) -> None:
    (tmp_path / "empty.pem").write_text("no certificate\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "empty.pem"))

    assert "REQUESTS_CA_BUNDLE" in str(listing_error(hub.url))


@pytest.mark.parametrize(
    ("url", "hint"),
    [("http://me:pa#ss@127.0.0.1:1", "%-codes"), ("socks9://me:pass@127.0.0.1:1", "http://name:password@host:port")],
)
def test_an_invalid_proxy_is_reported_without_its_password(hub, tmp_path, monkeypatch, url, hint) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)

    listing = listing_error(hub.url)
    downloading = download_failure(hub, tmp_path).error

    assert isinstance(listing, InvalidConfigError)
    assert hint in str(listing)
    assert str(downloading) == str(listing)
    assert "pa" not in str(listing).replace("password", "").replace("part", "")


@pytest.mark.slow
def test_a_client_factory_set_for_huggingface_hub_is_used(hub, company) -> None:
    trusting = ssl.create_default_context(cafile=str(company.bundle))
    set_client_factory(lambda: httpx.Client(verify=trusting))
    try:
        assert HubClient(hub.url).list_files(REPO).repo_id == REPO
    finally:
        set_client_factory(default_client_factory)
