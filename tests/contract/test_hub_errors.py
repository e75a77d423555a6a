"""The table of errors: every error that httpx or huggingface_hub may raise is mapped, and no token is shown."""

import ssl
import traceback

import pytest
from huggingface_hub import errors as hub_errors

from gglib_nb.domain.hub_answers import Asked, hub_refusal
from gglib_nb.errors import GglibError, HubError, InvalidConfigError, InvalidTokenError, NetworkError
from gglib_nb.hub.client import HubClient
from gglib_nb.hub.errors_map import hub_error, redact, refusal
from gglib_nb.hub.transport import RetryPolicy
from gglib_nb.network.client import httpx
from tests.support.faulty_hub import FaultyHub, Status

ASKED = Asked("https://hub.example", "owner/repo", "main", "a.gguf")

# Programming errors: a body read twice or not at all.
MISUSE = {"StreamError", "StreamClosed", "StreamConsumed", "RequestNotRead", "ResponseNotRead"}

# Parts of huggingface_hub that are not used here: its cache, its downloads, inference, jobs, buckets, its CLI.
ELSEWHERE = {
    "CacheNotFound",
    "CachedRepoTreeNotFoundError",
    "CLIError",
    "CLIExtensionInstallError",
    "ConfirmationError",
    "CorruptedCacheException",
    "DDUFCorruptedFileError",
    "DDUFError",
    "DDUFExportError",
    "DDUFInvalidEntryNameError",
    "DryRunError",
    "EntryNotFoundError",
    "FileDuplicationError",
    "FileMetadataError",
    "HFValidationError",
    "HfUriError",
    "IncompleteSnapshotError",
    "InferenceEndpointError",
    "InferenceEndpointTimeoutError",
    "LocalEntryNotFoundError",
    "NotASafetensorsRepoError",
    "RevisionResolutionError",
    "SafetensorsParsingError",
    "SandboxCommandError",
    "SandboxError",
    "StrictDataclassClassValidationError",
    "StrictDataclassDefinitionError",
    "StrictDataclassError",
    "StrictDataclassFieldValidationError",
    *("XetDownloadError", "XetError", "XetAuthorizationError", "XetRefreshTokenError"),
}


def errors_of(module: object) -> list[type[Exception]]:
    found = {kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    return sorted(found, key=lambda kind: kind.__name__)


def made(kind: type[Exception], status: int = 418) -> Exception:
    """An error of the kind, with a response if it has one."""
    error = kind.__new__(kind)
    Exception.__init__(error, "text")
    error.response = httpx.Response(status, request=httpx.Request("GET", ASKED.endpoint))  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("kind", errors_of(httpx), ids=lambda kind: kind.__name__)
def test_every_httpx_error_is_mapped_or_is_a_programming_error(kind: type[Exception]) -> None:
    ours = hub_error(made(kind), ASKED)

    assert (ours is None) == (kind.__name__ in MISUSE)


@pytest.mark.parametrize("kind", errors_of(hub_errors), ids=lambda kind: kind.__name__)
def test_every_huggingface_hub_error_is_mapped_or_unrelated(kind: type[Exception]) -> None:
    ours = hub_error(made(kind), ASKED)

    assert (ours is None) == (kind.__name__ in ELSEWHERE)


@pytest.mark.parametrize("status", range(400, 600))
def test_every_error_status_gives_advice(status: int) -> None:
    request = httpx.Request("GET", f"{ASKED.endpoint}/api/models/owner/repo")
    answer = httpx.Response(status, request=request)

    ours = hub_refusal(refusal(answer, b""), ASKED)

    assert isinstance(ours, HubError | InvalidConfigError)
    assert str(ours).endswith(".")
    assert "None" not in str(ours)


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (b'{"error": "Not so"}', {}, "Not so"),
        (b'{"error": ["one", "two"]}', {}, "one, two"),
        (b'{"errors": [{"message": "Too long"}]}', {}, "Too long"),
        (b'{"error": "Not so"}', {"X-Error-Message": "So"}, "So"),
        (b'{"error": "my-secret is not it"}', {}, "\u2026 is not it"),
        (b"<html>", {}, ""),
        (b'{"error": {"a": 1}}', {}, "a"),
        (b"[1]", {}, ""),
        (b"7", {}, ""),
        (b"[" * 100_000, {}, ""),
        (b"\xff", {}, ""),
    ],
)
def test_the_reason_of_a_refusal_is_parsed_in_every_form(body: bytes, headers: dict[str, str], text: str) -> None:
    request = httpx.Request("GET", ASKED.endpoint, headers={"authorization": "Bearer my-secret"})
    answer = httpx.Response(400, headers=headers, request=request)

    assert refusal(answer, body).text == text


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), AssertionError("x"), RuntimeError("x")])
def test_a_programming_error_is_not_mapped(error: Exception) -> None:
    assert hub_error(error, ASKED) is None


def test_an_untrusted_certificate_says_where_to_set_the_companys_certificate() -> None:
    error = httpx.ConnectError("no")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed certificate in certificate chain")

    ours = hub_error(error, ASKED)

    assert isinstance(ours, InvalidConfigError)
    assert "The certificate of hub.example is not trusted." in str(ours)
    assert "SSL_CERT_FILE" in str(ours)


def test_a_failing_proxy_names_the_proxy_variables() -> None:
    ours = hub_error(httpx.ProxyError("502 Bad Gateway"), ASKED)

    assert isinstance(ours, NetworkError)
    assert "HTTPS_PROXY" in str(ours)


def test_an_unusable_proxy_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks9://me:s3cr3t@proxy:1")

    with pytest.raises(InvalidConfigError, match="proxy settings") as caught:
        HubClient("http://hub.example").list_files("owner/repo")
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


def test_an_expired_stored_login_advises_a_new_login() -> None:
    failure = getattr(hub_errors, "DeviceCodeError", hub_errors.LocalTokenNotFoundError)

    assert isinstance(hub_error(failure("expired"), ASKED), InvalidTokenError)


def test_a_secret_is_removed_from_all_chained_exceptions() -> None:
    inner = ValueError("Bearer hf_secret")
    outer = OSError(22, "hf_secret is not it")
    outer.__cause__ = inner
    inner.__context__ = outer

    redact(outer)

    assert inner.args == ("Bearer …",)
    assert outer.args == (22, "… is not it")


def test_a_token_echoed_by_the_hub_is_not_in_a_traceback(hub: FaultyHub) -> None:
    hub.faults.add(Status(400, error_message="hf_demo_granted may not do this"), times=None)
    client = HubClient(hub.url, "hf_demo_granted", retry_policy=RetryPolicy(tries=1))

    with pytest.raises(GglibError) as caught:
        client.list_files("demo/small-GGUF")
    assert "may not do this" in str(caught.value)
    shown = traceback.TracebackException.from_exception(caught.value).format()
    assert "hf_demo_granted" not in "".join(shown)
