"""The hub client with the embedded hub: what it reads, what it sends, and what the token gives access to."""

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gglib_nb.demo import GRANTED_TOKEN
from gglib_nb.domain.plan import RepoListing
from gglib_nb.errors import (
    GatedRepoError,
    HubError,
    InvalidRepoIdError,
    InvalidTokenError,
    OfflineError,
    RepoNotFoundError,
    RequestError,
    RevisionNotFoundError,
)
from gglib_nb.hub.client import HubClient
from tests.support.faulty_hub import PLAIN_TOKEN, FaultyHub, MaskedXetHash, Redirect, Then
from tests.support.hub import make_files, make_repository


@pytest.fixture
def client(hub: FaultyHub) -> HubClient:
    return HubClient(hub.url)


def commit_of(hub: FaultyHub, repo_id: str, name: str = "main") -> str:
    commit = hub.repositories[repo_id].commit(name)
    assert commit is not None
    return commit.sha


# --- listing ---


def test_a_listing_has_every_file_with_size_and_digest(hub: FaultyHub, client: HubClient) -> None:
    listing = client.list_files("demo/small-GGUF")

    content = hub.repositories["demo/small-GGUF"].commit().files["small-Q4_K_M.gguf"].content  # type: ignore[union-attr]
    assert listing.repo_id == "demo/small-GGUF"
    assert listing.commit_sha == commit_of(hub, "demo/small-GGUF")
    assert (listing.gate, listing.is_private) == (None, False)
    assert [file.path for file in listing.files] == ["README.md", "small-Q4_K_M.gguf", "small-Q8_0.gguf"]
    assert listing.file("small-Q4_K_M.gguf").size_bytes == 300_000
    assert listing.file("small-Q4_K_M.gguf").sha256 == content.sha256
    assert listing.file("README.md").sha256 is None


def test_a_listing_follows_every_page_and_every_folder(make_hub: Callable[..., FaultyHub]) -> None:
    files = {f"folder-{n % 3}/model-{n:03}.gguf": 600 for n in range(23)}
    hub = make_hub([make_repository("demo/many", files)], page_size=5)

    listing = HubClient(hub.url).list_files("demo/many")

    assert [file.path for file in listing.files] == sorted(files)
    assert sum("/tree/" in request.path for request in hub.requests) == 6


def test_a_revision_is_resolved_once_and_its_commit_is_used_afterwards(hub: FaultyHub, client: HubClient) -> None:
    sha = commit_of(hub, "demo/small-GGUF")

    client.list_files("demo/small-GGUF", "main")

    assert [request.path for request in hub.requests] == [
        "/api/models/demo/small-GGUF/revision/main",
        f"/api/models/demo/small-GGUF/tree/{sha}",
    ]


def test_a_branch_that_moves_during_a_listing_does_not_change_it(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository("demo/moving", {f"model-{n}.gguf": 600 for n in range(4)})], page_size=2)
    client = HubClient(hub.url)
    before = client.list_files("demo/moving")

    hub.move_branch("demo/moving", "main", make_files({"other.gguf": 600}))

    assert client.list_files("demo/moving", before.commit_sha).files == before.files
    assert [file.path for file in client.list_files("demo/moving").files] == ["other.gguf"]


def test_a_pull_requests_revision_keeps_its_slashes(make_hub: Callable[..., FaultyHub]) -> None:
    repository = make_repository("demo/r", {"a.gguf": 600}, revisions={"refs/pr/1": make_files({"b.gguf": 600})})
    hub = make_hub([repository])

    listing = HubClient(hub.url).list_files("demo/r", "refs/pr/1")

    assert [file.path for file in listing.files] == ["b.gguf"]


def test_a_renamed_repository_is_listed_under_its_new_id(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository("demo/new-name", {"a.gguf": 600}, renamed_from=("demo/old-name",))])

    listing = HubClient(hub.url, GRANTED_TOKEN).list_files("demo/old-name")

    assert listing.repo_id == "demo/new-name"
    assert [file.path for file in listing.files] == ["a.gguf"]
    assert all("authorization" in request.headers for request in hub.requests)


def test_a_masked_hash_is_not_a_digest(hub: FaultyHub, client: HubClient) -> None:
    hub.faults.add(MaskedXetHash(), path="*/tree/*")

    assert client.list_files("demo/small-GGUF").file("small-Q4_K_M.gguf").sha256 is not None


def test_a_gated_listing_states_how_access_is_granted(client: HubClient) -> None:
    assert client.list_files("demo/gated-GGUF").gate == "manual"


def test_a_private_repository_is_listed_with_its_token(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository("demo/private", {"a.gguf": 600}, private=True)])

    assert HubClient(hub.url, GRANTED_TOKEN).list_files("demo/private").is_private is True


def test_an_unknown_repository_says_to_check_the_spelling_and_how_to_log_in(client: HubClient) -> None:
    with pytest.raises(RepoNotFoundError, match=r"no repository demo/nothing .* Check the spelling.*hf auth login"):
        client.list_files("demo/nothing")


def test_an_unknown_repository_with_a_token_mentions_the_tokens_permissions(hub: FaultyHub) -> None:
    with pytest.raises(RepoNotFoundError, match="the token has no access to it"):
        HubClient(hub.url, PLAIN_TOKEN).list_files("demo/nothing")


def test_an_unknown_revision_lists_the_existing_ones(make_hub: Callable[..., FaultyHub]) -> None:
    repository = make_repository("demo/r", {"a.gguf": 600}, revisions={"v1.0": [], "d\x1bev": []})
    hub = make_hub([repository])

    with pytest.raises(RevisionNotFoundError, match=r"no branch or tag 'v2'\. It has main, d ev, v1\.0\."):
        HubClient(hub.url).list_files("demo/r", "v2")


def test_an_invalid_repository_id_is_refused_without_a_request(hub: FaultyHub, client: HubClient) -> None:
    with pytest.raises(InvalidRepoIdError):
        client.list_files("../../etc")
    assert hub.requests == ()


# --- access ---


def test_checking_access_to_an_open_repository_costs_no_request(hub: FaultyHub, client: HubClient) -> None:
    client.check_access(RepoListing("demo/small-GGUF", "0" * 40, None, False, ()))

    assert hub.requests == ()


def test_a_gated_repository_names_its_page_and_how_to_log_in(hub: FaultyHub, client: HubClient) -> None:
    listing = client.list_files("demo/gated-GGUF")

    with pytest.raises(GatedRepoError, match=r"accept its terms on .*, then log in with `hf auth login`") as caught:
        client.check_access(listing)
    assert caught.value.accept_url == f"{hub.url}/demo/gated-GGUF"


def test_a_gated_repository_without_approval_advises_requesting_access(hub: FaultyHub) -> None:
    with pytest.raises(GatedRepoError, match="request access on"):
        HubClient(hub.url, PLAIN_TOKEN).check_access("demo/gated-GGUF")


def test_a_granted_token_opens_a_gated_repository(hub: FaultyHub) -> None:
    client = HubClient(hub.url, GRANTED_TOKEN)

    client.check_access(client.list_files("demo/gated-GGUF"))


def test_a_disabled_repository_is_reported_as_missing(make_hub: Callable[..., FaultyHub]) -> None:
    hub = make_hub([make_repository("demo/gone", {"a.gguf": 600}, disabled=True)])

    with pytest.raises(RepoNotFoundError, match="disabled"):
        HubClient(hub.url).list_files("demo/gone")


# --- token ---


def test_a_bad_token_advises_a_new_login_and_is_not_shown(hub: FaultyHub) -> None:
    with pytest.raises(InvalidTokenError, match="hf auth login") as caught:
        HubClient(hub.url, "hf_wrong_secret").list_files("demo/small-GGUF")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["hf_sec\nret", "hf_sec ret", "hf_secrét", '"hf_secret"', "'hf_secret'"])
def test_a_token_invalid_in_a_header_is_refused_without_being_shown(hub: FaultyHub, token: str) -> None:
    with pytest.raises(InvalidTokenError, match="Paste it again") as caught:
        HubClient(hub.url, token).list_files("demo/small-GGUF")
    assert "sec" not in str(caught.value)
    assert hub.requests == ()


def test_whitespace_around_a_token_is_not_sent(hub: FaultyHub) -> None:
    assert HubClient(hub.url, f" {GRANTED_TOKEN}\n").token == GRANTED_TOKEN


def test_the_stored_token_is_read_at_every_call(hub: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    client = HubClient(hub.url)
    assert client.token is None

    monkeypatch.setenv("HF_TOKEN", GRANTED_TOKEN)

    client.check_access("demo/gated-GGUF")
    assert client.token == GRANTED_TOKEN


def test_a_repr_never_contains_the_token(hub: FaultyHub) -> None:
    client = HubClient(hub.url, "hf_secret")

    assert "hf_secret" not in repr(client) + repr(vars(client))


def test_the_token_is_sent_only_to_the_hubs_origin(hub: FaultyHub) -> None:
    client = HubClient(hub.url, GRANTED_TOKEN)

    client.read_range("demo/small-GGUF", commit_of(hub, "demo/small-GGUF"), "small-Q4_K_M.gguf", 0, 64)

    assert [(request.origin, "authorization" in request.headers) for request in hub.requests] == [
        ("hub", True),
        ("cdn", False),
    ]


def test_a_redirect_to_another_origin_drops_the_token(make_hub: Callable[..., FaultyHub]) -> None:
    other = make_hub([make_repository("demo/many", {f"m-{n}.gguf": 600 for n in range(4)})])
    hub = make_hub([make_repository("demo/many", {f"m-{n}.gguf": 600 for n in range(4)})])
    hub.faults.add(Redirect(f"{other.url}/api/models/demo/many"), path="/api/models/demo/many/revision/main")

    HubClient(hub.url, GRANTED_TOKEN).list_files("demo/many")

    assert [("authorization" in request.headers) for request in other.requests] == [False]


def test_requests_have_our_user_agent(hub: FaultyHub, client: HubClient) -> None:
    client.list_files("demo/small-GGUF")

    assert all(request.headers["user-agent"].startswith("gglib_nb/") for request in hub.requests)
    assert client.user_agent.startswith("gglib_nb/")


def test_a_timeout_that_huggingface_hub_cannot_read_is_a_setting_to_correct(hub: FaultyHub, tmp_path: Path) -> None:
    """It reads its variables when it is imported: until then, and again after a correction in the same kernel."""
    code = f"""
import os
from gglib_nb import InvalidConfigError
from gglib_nb.hub.client import HubClient
client = HubClient({hub.url!r})
for call in (lambda: client.list_files("demo/small-GGUF"), lambda: client.token):
    try:
        call()
    except InvalidConfigError as error:
        assert "HF_HUB_DOWNLOAD_TIMEOUT" in str(error)
    else:
        raise AssertionError
del os.environ["HF_HUB_DOWNLOAD_TIMEOUT"]
client.list_files("demo/small-GGUF")
"""
    environment = {"PATH": os.environ["PATH"], "HF_HOME": str(tmp_path), "HF_HUB_DOWNLOAD_TIMEOUT": "30s"}

    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_only_our_own_requests_are_sent(hub: FaultyHub, tmp_path: Path) -> None:
    """Huggingface_hub asks the Hub for a list of agents when it makes headers, with its own client."""
    code = (
        f"from gglib_nb.hub.client import HubClient as C; c = C({hub.url!r}); c.token; c.list_files('demo/small-GGUF')"
    )
    environment = {"PATH": os.environ["PATH"], "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}

    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)

    assert {request.path for request in hub.requests} == {
        "/api/models/demo/small-GGUF/revision/main",
        f"/api/models/demo/small-GGUF/tree/{commit_of(hub, 'demo/small-GGUF')}",
    }


def test_offline_mode_sends_no_requests(hub: FaultyHub) -> None:
    client = HubClient(hub.url, is_offline=True)

    with pytest.raises(OfflineError, match="HF_HUB_OFFLINE"):
        client.list_files("demo/small-GGUF")
    with pytest.raises(OfflineError):
        client.search("demo")
    assert hub.requests == ()


def test_huggingface_hubs_offline_mode_sends_no_requests(hub: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(OfflineError):
        HubClient(hub.url).list_files("demo/small-GGUF")
    assert hub.requests == ()


# --- search ---


@pytest.fixture
def library(make_hub: Callable[..., FaultyHub]) -> FaultyHub:
    """Thirty GGUF repositories of 1 to 30 billion parameters, one that does not say, one of another kind."""
    sized = [
        make_repository(
            f"demo/llama-{n}B-GGUF",
            {"a.gguf": 600},
            downloads=n * 10,
            likes=100 - n,
            gguf={"total": n * 10**9, "architecture": "llama"},
            last_modified=f"2026-01-{n:02}T00:00:00.000Z",
        )
        for n in range(1, 31)
    ]
    unsized = make_repository("demo/llama-unknown-GGUF", {"a.gguf": 600}, downloads=1000)
    other = make_repository("demo/llama-safetensors", {"a.bin": 600}, tags=("safetensors",), downloads=2000)
    return make_hub([*sized, unsized, other], page_size=7)


def test_a_search_finds_gguf_repositories_with_their_details(library: FaultyHub) -> None:
    first, second, *_ = HubClient(library.url).search("llama")

    assert (first.repo_id, first.parameter_count, first.architecture) == ("demo/llama-unknown-GGUF", None, None)
    assert (second.repo_id, second.downloads, second.likes) == ("demo/llama-30B-GGUF", 300, 70)
    assert (second.parameter_count, second.architecture) == (30 * 10**9, "llama")
    assert (second.gate, second.modified_at) == (None, "2026-01-30T00:00:00.000Z")


def test_a_search_reads_pages_until_it_has_enough(library: FaultyHub) -> None:
    assert len(HubClient(library.url).search("llama", limit=20)) == 20
    assert len(library.requests) == 3


def test_a_maximum_size_excludes_larger_and_unknown_sizes(library: FaultyHub) -> None:
    found = HubClient(library.url).search("llama", max_parameters=3 * 10**9)

    assert [row.repo_id for row in found] == ["demo/llama-3B-GGUF", "demo/llama-2B-GGUF", "demo/llama-1B-GGUF"]


def test_a_search_can_be_filtered_by_licence_task_and_base_model(hub: FaultyHub) -> None:
    tags = ("gguf", "license:apache-2.0", "image-text-to-text", "base_model:quantized:demo/base")
    hub.add_repository(make_repository("demo/wanted-GGUF", {"m-Q8_0.gguf": 1_000}, tags=tags))
    client = HubClient(hub.url)

    wanted = {"licence": "apache-2.0"}, {"task": "image-text-to-text"}, {"quantized_from": "demo/base"}
    found = [[row.repo_id for row in client.search("demo", **one)] for one in wanted]

    assert found == [["demo/wanted-GGUF"]] * 3


def test_a_search_is_sorted_as_requested(library: FaultyHub) -> None:
    assert HubClient(library.url).search("llama", sort="likes", limit=1)[0].repo_id == "demo/llama-1B-GGUF"


def test_an_unknown_order_lists_the_valid_ones(library: FaultyHub) -> None:
    with pytest.raises(RequestError, match="downloads, likes, trending, created, modified"):
        HubClient(library.url).search("llama", sort="size")


# --- ranges ---


def test_a_range_read_requests_exactly_its_bytes(hub: FaultyHub, client: HubClient) -> None:
    sha = commit_of(hub, "demo/small-GGUF")
    content = hub.repositories["demo/small-GGUF"].commit().files["small-Q4_K_M.gguf"].content  # type: ignore[union-attr]
    whole = b"".join(content.slices())

    found = client.read_range("demo/small-GGUF", sha, "small-Q4_K_M.gguf", 1000, 5000)

    assert found == whole[1000:6000]
    assert hub.ranges("small-Q4_K_M.gguf") == [(1000, 5999)]
    assert all(request.headers["accept-encoding"] == "identity" for request in hub.requests)


def test_a_range_ends_at_the_end_of_the_file(hub: FaultyHub, client: HubClient) -> None:
    sha = commit_of(hub, "demo/small-GGUF")

    assert len(client.read_range("demo/small-GGUF", sha, "small-Q4_K_M.gguf", 299_990, 100)) == 10
    assert client.read_range("demo/small-GGUF", sha, "small-Q4_K_M.gguf", 300_000, 100) == b""
    assert client.read_range("demo/small-GGUF", sha, "small-Q4_K_M.gguf", 0, 0) == b""


def test_a_small_file_is_read_through_the_hubs_cache(hub: FaultyHub, client: HubClient) -> None:
    assert client.read_range("demo/small-GGUF", commit_of(hub, "demo/small-GGUF"), "README.md", 2, 100) == b"small\n"


def test_a_range_of_a_gated_file_names_the_page(hub: FaultyHub, client: HubClient) -> None:
    with pytest.raises(GatedRepoError, match="accept its terms"):
        client.read_range("demo/gated-GGUF", commit_of(hub, "demo/gated-GGUF"), "gated-Q4_K_M.gguf", 0, 100)


def test_a_range_of_a_missing_file_names_it(hub: FaultyHub, client: HubClient) -> None:
    with pytest.raises(HubError, match=r"has no file 'none\.gguf'"):
        client.read_range("demo/small-GGUF", commit_of(hub, "demo/small-GGUF"), "none.gguf", 0, 100)


def test_a_range_larger_than_a_header_needs_is_refused(hub: FaultyHub, client: HubClient) -> None:
    with pytest.raises(HubError, match=r"67\.1 MB"):
        client.read_range("demo/small-GGUF", "0" * 40, "a.gguf", 0, 10**9)
    assert hub.requests == ()


def test_several_threads_share_one_client(hub: FaultyHub, client: HubClient) -> None:
    with ThreadPoolExecutor(4) as pool:
        listings = list(pool.map(client.list_files, ["demo/small-GGUF", "demo/split-GGUF"] * 6))

    assert {len(listing.files) for listing in listings} == {3}


def test_an_unreadable_stored_login_is_reported_only_if_a_token_is_needed(
    client: HubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path))  # a folder cannot be read either

    listing = client.list_files("demo/small-GGUF")
    with pytest.raises(GatedRepoError, match=re.escape(str(tmp_path))):
        client.check_access(client.list_files("demo/gated-GGUF"))

    assert listing.files
    with pytest.raises(InvalidTokenError, match=re.escape(str(tmp_path))):
        _ = client.token


def test_an_unreadable_stored_login_is_reported_although_another_thread_reads_from_the_storage_meanwhile(
    hub: FaultyHub, client: HubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path))
    public, gated = client.list_files("demo/small-GGUF"), client.list_files("demo/gated-GGUF")
    file = public.files[-1].path
    hub.faults.add(Then(lambda: client.read_range(public.repo_id, public.commit_sha, file, 0, 4)), path="*/auth-check")

    with pytest.raises(GatedRepoError, match=re.escape(str(tmp_path))):
        client.check_access(gated)


def test_a_package_that_is_not_installed_has_a_user_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", refuse)

    assert HubClient("https://hub").user_agent.startswith("gglib_nb/unknown")
