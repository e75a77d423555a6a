"""The mapping of the Hub's responses to error messages; no text contains a token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.hub_answers import Asked, Refusal, hub_refusal, proxy_refusal
from gglib_nb.domain.text import redacted
from gglib_nb.errors import (
    GatedRepoError,
    HubError,
    HubUnavailableError,
    InvalidConfigError,
    InvalidTokenError,
    ProxyError,
    RateLimitedError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from tests.support.sentences import check_sentence

HUB = "https://hub.example"
FILE = Asked(HUB, "owner/repo", "main", "a.gguf")
REPO = Asked(HUB, "owner/repo")
COMMIT = Asked(HUB, "owner/repo", "c0ffee")
NO_REVISION = Asked(HUB, "owner/repo", None, "a.gguf")
SEARCH = Asked(HUB)
NO_LOGIN = Asked(HUB, "owner/repo", "main", "a.gguf", has_login=False)


@pytest.mark.parametrize(
    ("refusal", "asked", "kind", "text"),
    [
        (
            Refusal(401, "GatedRepo"),
            FILE,
            GatedRepoError,
            "accept its terms on https://hub.example/owner/repo, then log in",
        ),
        (
            Refusal(403, "GatedRepo", had_token=True),
            FILE,
            GatedRepoError,
            "request access on https://hub.example/owner/repo",
        ),
        (Refusal(404, "RepoNotFound"), REPO, RepoNotFoundError, "for a private repository, log in"),
        (Refusal(404, "RepoNotFound", had_token=True), REPO, RepoNotFoundError, "the token has no access to it"),
        (Refusal(404, "RevisionNotFound"), FILE, RevisionNotFoundError, "no branch or tag 'main'"),
        (Refusal(404, "RevisionNotFound"), REPO, RevisionNotFoundError, "has no default branch yet"),
        (Refusal(404, "EntryNotFound"), FILE, HubError, "has no file 'a.gguf' at main"),
        (Refusal(404, "EntryNotFound"), NO_REVISION, HubError, "has no file 'a.gguf' on its default branch"),
        (Refusal(404, "EntryNotFound"), REPO, RevisionNotFoundError, "has no default branch yet"),
        (Refusal(404, "EntryNotFound"), COMMIT, RevisionNotFoundError, "no branch or tag 'c0ffee'"),
        (Refusal(401, "RepoNotFound"), SEARCH, HubError, "does not support search: name a repository as owner/name"),
        (Refusal(403, "GatedRepo"), SEARCH, InvalidTokenError, "https://hub.example is restricted (403)"),
        (Refusal(403, "DisabledRepo"), REPO, RepoNotFoundError, "was disabled by the Hub or its owner"),
        (
            Refusal(401, text="Invalid credentials in Authorization header"),
            REPO,
            InvalidTokenError,
            "does not accept the token",
        ),
        (Refusal(401), REPO, RepoNotFoundError, "There is no repository owner/repo"),
        (Refusal(401), SEARCH, HubError, "does not support search: name a repository as owner/name, or log in"),
        (
            Refusal(403, had_token=True),
            REPO,
            InvalidTokenError,
            "no permission to read https://hub.example/owner/repo (403)",
        ),
        (Refusal(403), REPO, InvalidTokenError, "is restricted (403); log in"),
        (
            Refusal(403, had_token=True, is_web_page=True),
            REPO,
            ProxyError,
            "A proxy or firewall refuses connections to https://hub.example (403)",
        ),
        (Refusal(401, is_web_page=True), REPO, ProxyError, "A proxy or firewall refuses"),
        (Refusal(403, "GatedRepo", had_token=True, is_web_page=True), REPO, GatedRepoError, "request access on"),
        (Refusal(404), REPO, RepoNotFoundError, "There is no repository owner/repo"),
        (Refusal(404), SEARCH, InvalidConfigError, "Check HF_ENDPOINT"),
        (
            Refusal(407),
            SEARCH,
            ProxyError,
            "The proxy for https://hub.example asks for a user name and password",
        ),
        (Refusal(408), FILE, HubUnavailableError, "failed (408) at a.gguf; try again later"),
        (Refusal(425), SEARCH, HubUnavailableError, "failed (425) at the search; try again later"),
        (Refusal(503), REPO, HubUnavailableError, "failed (503) at owner/repo; try again later"),
        (Refusal(429, wait_s=55, had_token=True), REPO, RateLimitedError, "(429). Try again in 55 s."),
        (Refusal(429, wait_s=3_600, had_token=True), REPO, RateLimitedError, "(429). Try again in 1 h 00 min."),
        (Refusal(429), REPO, RateLimitedError, "Try again later. Logged-in users have a higher limit"),
        (Refusal(418, text="A teapot."), REPO, HubError, "refused owner/repo (418): A teapot."),
        (Refusal(418), SEARCH, HubError, "refused the search (418): no reason given."),
    ],
)
def test_each_response_has_one_meaning(refusal, asked, kind, text) -> None:
    error = hub_refusal(refusal, asked)

    assert type(error) is kind
    assert text in str(error)


@given(
    st.integers(300, 599),
    st.sampled_from(["GatedRepo", "RepoNotFound", "RevisionNotFound", "EntryNotFound", "DisabledRepo", ""]),
    st.sampled_from(["", ".", "A reason.", "Access to this resource is disabled."]),
    st.booleans(),
    st.none() | st.floats(0, 1e12),
    st.sampled_from([FILE, REPO, COMMIT, NO_REVISION, SEARCH]),
)
def test_every_response_gives_a_complete_sentence(status, code, said, had_token, wait_s, asked) -> None:
    refusal = Refusal(status, code, said, had_token=had_token, wait_s=wait_s)

    check_sentence(str(hub_refusal(refusal, asked)))


def test_a_web_page_with_a_message_of_the_hub_is_not_a_proxys() -> None:
    said = {"content-type": "text/html", "x-error-message": "Invalid credentials in Authorization header"}

    assert isinstance(hub_refusal(Refusal.of(401, said, had_token=True), REPO), InvalidTokenError)


def test_a_disabled_repository_is_recognized_by_the_hubs_message() -> None:
    refusal = Refusal.of(403, {}, text="Access to this resource is disabled.", had_token=False)

    assert refusal.code == "DisabledRepo"


@pytest.mark.parametrize(
    ("wait_s", "text"), [(None, "later"), (55, "in 55 s"), (4_000, "in 1 h 06 min"), (2.6e11, "in 99 h 59 min")]
)
def test_a_rate_limit_says_when_to_try_again(wait_s, text) -> None:
    error = hub_refusal(Refusal(429, wait_s=wait_s), FILE)

    assert f"Try again {text}." in str(error)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hf_AbCdEf123456 may not", "… may not"),
        ("Authorization: Bearer s3cr3t-token", "Authorization: Bearer …"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig was refused", "token … was refused"),
        ("proxy http://me:password@proxy:3128 failed", "proxy http://…@proxy:3128 failed"),
        ("the file half_f16.gguf is fine", "the file half_f16.gguf is fine"),
    ],
)
def test_text_that_looks_like_a_token_is_hidden(text, shown) -> None:
    assert redacted(text) == shown


def test_a_known_secret_is_hidden_in_any_form() -> None:
    assert redacted("open sesame, said the hub", "sesame") == "open …, said the hub"


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_server_without_a_login_advises_none(status: int) -> None:
    text = str(hub_refusal(Refusal(status), NO_LOGIN))

    check_sentence(text)
    assert str(status) in text or status in (401, 404)
    assert not any(word in text for word in ("log in", "HF_TOKEN", "token"))


def test_the_name_of_a_variable_is_no_token() -> None:
    assert redacted("Unset HF_HUB_OFFLINE, or check HF_ENDPOINT.") == "Unset HF_HUB_OFFLINE, or check HF_ENDPOINT."


@pytest.mark.parametrize("text", ["/mnt/hf_models/a.gguf", r"D:\hf_models\a.gguf", str(proxy_refusal("a.test", 407))])
def test_a_folder_and_the_form_of_a_proxys_address_are_no_secrets(text: str) -> None:
    assert redacted(text) == text


def test_a_whole_token_in_an_address_is_hidden() -> None:
    assert redacted(f"https://a.test/hf_{'aB' * 17}") == "https://a.test/…"
