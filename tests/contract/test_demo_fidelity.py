"""Proves that the embedded hub behaves like the Hub: the real `huggingface_hub` works with it and raises its typed errors."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    BadRequestError,
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._http import parse_ratelimit_headers

from gglib_nb.demo import GRANTED_TOKEN
from gglib_nb.network.client import httpx
from tests.support.faulty_hub import (
    PLAIN_TOKEN,
    BadToken,
    Cut,
    Direct,
    Disabled,
    ExpiredUrl,
    FaultyHub,
    Gzipped,
    MaskedXetHash,
    RateLimited,
    Status,
    Then,
    WrongBytes,
)
from tests.support.hub import ask, make_files, make_repository

SMALL, MODEL = "demo/small-GGUF", "small-Q4_K_M.gguf"


def file_info(api: HfApi, repo_id: str, path: str, revision: str = "main") -> RepoFile:
    [entry] = api.get_paths_info(repo_id, path, revision=revision)
    assert isinstance(entry, RepoFile)
    return entry


@pytest.fixture
def api(hub: FaultyHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


@pytest.fixture
def granted_api(hub: FaultyHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=GRANTED_TOKEN)


def sha256_of(hub: FaultyHub, repo_id: str, path: str) -> str:
    commit = hub.repositories[repo_id].commit()
    assert commit is not None
    return commit.files[path].content.sha256


def test_model_info_names_commit_files_and_gating(hub: FaultyHub, api: HfApi) -> None:
    info = api.model_info(SMALL)

    assert info.sha == hub.repositories[SMALL].names["main"]
    assert info.gated is False
    assert [sibling.rfilename for sibling in info.siblings or []] == ["README.md", MODEL, "small-Q8_0.gguf"]
    assert api.model_info("demo/gated-GGUF").gated == "manual"


def test_model_info_with_blobs_has_sizes_and_digests(hub: FaultyHub, api: HfApi) -> None:
    siblings = {sibling.rfilename: sibling for sibling in api.model_info(SMALL, files_metadata=True).siblings or []}

    lfs = siblings[MODEL].lfs
    assert lfs is not None
    assert (siblings[MODEL].size, lfs.size, lfs.sha256) == (300_000, 300_000, sha256_of(hub, SMALL, MODEL))
    assert siblings["README.md"].lfs is None


def test_model_info_returns_only_the_requested_fields(hub: FaultyHub, api: HfApi) -> None:
    hub.add_repository(make_repository("demo/facts-GGUF", {MODEL: 600}, gguf={"total": 7, "architecture": "llama"}))

    info = api.model_info("demo/facts-GGUF", expand=["gguf", "downloads"])

    assert info.gguf == {"total": 7, "architecture": "llama"}
    assert (info.downloads, info.sha) == (0, None)


def test_the_tree_is_paginated(make_hub: Callable[..., FaultyHub]) -> None:
    files = {f"folder/{number:02}.gguf": 600 for number in range(25)}
    hub = make_hub([make_repository("demo/many-GGUF", files)], page_size=10)
    api = HfApi(endpoint=hub.url, token=False)

    entries = list(api.list_repo_tree("demo/many-GGUF", recursive=True))

    assert [entry.path for entry in entries] == ["folder", *files]
    assert [record.path for record in hub.requests] == ["/api/models/demo/many-GGUF/tree/main"] * 3


def test_the_tree_of_a_folder_is_flat_by_default(api: HfApi) -> None:
    top = list(api.list_repo_tree("demo/split-GGUF"))
    inside = list(api.list_repo_tree("demo/split-GGUF", "Q4_K_M", expand=True))

    assert [entry.path for entry in top] == ["Q4_K_M"]
    assert [entry.path for entry in inside] == [f"Q4_K_M/split-Q4_K_M-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    assert inside[0].last_commit is not None


def test_paths_info_drops_unknown_paths(hub: FaultyHub, api: HfApi) -> None:
    entries = api.get_paths_info(SMALL, [MODEL, "nothing.gguf"])

    assert [entry.path for entry in entries] == [MODEL]


def test_paths_info_has_size_and_sha256(hub: FaultyHub, api: HfApi) -> None:
    entry = file_info(api, SMALL, MODEL)

    assert entry.lfs is not None
    assert (entry.size, entry.lfs.sha256) == (300_000, sha256_of(hub, SMALL, MODEL))


def test_search_filters_sorts_and_pages(make_hub: Callable[..., FaultyHub]) -> None:
    repositories = [make_repository(f"demo/model-{n}-GGUF", {MODEL: 600}, downloads=n) for n in range(5)]
    other = make_repository("other/model-9-GGUF", {MODEL: 600}, tags=("onnx",), downloads=9)
    hub = make_hub([*repositories, other], page_size=2)
    api = HfApi(endpoint=hub.url, token=False)

    by_downloads = [
        model.id for model in api.list_models(search="MODEL", author="demo", filter="gguf", sort="downloads")
    ]
    first_two = [model.id for model in api.list_models(sort="downloads", limit=2)]
    full = next(iter(api.list_models(author="other", full=True)))

    assert by_downloads == [f"demo/model-{n}-GGUF" for n in (4, 3, 2, 1, 0)]
    assert first_two == ["other/model-9-GGUF", "demo/model-4-GGUF"]
    assert full.sha == other.names["main"]


def test_revisions_resolve_to_commits(hub: FaultyHub, api: HfApi) -> None:
    tagged = {"v1.0": make_files({MODEL: 600}), "refs/pr/1": make_files({MODEL: 700})}
    repository = hub.add_repository(make_repository("demo/versions-GGUF", {MODEL: 800}, revisions=tagged))

    references = api.list_repo_refs("demo/versions-GGUF", include_pull_requests=True)

    assert references.branches[0].target_commit == repository.names["main"]
    assert references.tags[0].target_commit == repository.names["v1.0"]
    assert references.pull_requests is not None
    assert api.model_info("demo/versions-GGUF", revision="refs/pr/1").sha == repository.names["refs/pr/1"]
    assert file_info(api, "demo/versions-GGUF", MODEL, "v1.0").size == 600


def test_a_moved_branch_leaves_its_old_commit_readable(hub: FaultyHub, api: HfApi) -> None:
    old = hub.repositories[SMALL].names["main"]

    new = hub.move_branch(SMALL, "main", make_files({MODEL: 1000}))

    assert (api.model_info(SMALL).sha, api.model_info(SMALL, revision=old).sha) == (new, old)
    assert file_info(api, SMALL, MODEL, old).size == 300_000


def test_file_metadata_has_the_sha256_and_not_the_etag_of_the_cdn(hub: FaultyHub) -> None:
    metadata = get_hf_file_metadata(hf_hub_url(SMALL, MODEL, endpoint=hub.url), token=False)

    cdn_etag = ask(metadata.location, "HEAD").headers["ETag"].strip('"')
    assert metadata.etag == sha256_of(hub, SMALL, MODEL)
    assert (metadata.size, metadata.commit_hash) == (300_000, hub.repositories[SMALL].names["main"])
    assert metadata.location.startswith(hub.cdn_url)
    assert len(cdn_etag) == 64
    assert cdn_etag != metadata.etag


def test_a_download_has_the_right_bytes(hub: FaultyHub, tmp_path: Path) -> None:
    path = hf_hub_download(SMALL, MODEL, endpoint=hub.url, token=False, cache_dir=tmp_path)

    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256_of(hub, SMALL, MODEL)


def test_a_snapshot_has_small_and_large_files(hub: FaultyHub, tmp_path: Path) -> None:
    folder = snapshot_download(SMALL, endpoint=hub.url, token=False, local_dir=tmp_path / "here")

    found = {path.name: path.stat().st_size for path in Path(folder).iterdir() if path.is_file()}
    assert found == {"README.md": 8, MODEL: 300_000, "small-Q8_0.gguf": 500_000}


def test_a_broken_connection_is_resumed_with_a_range(hub: FaultyHub, tmp_path: Path) -> None:
    hub.add_repository(make_repository("demo/long-GGUF", {MODEL: 25_000_000}))
    hub.faults.add(Cut(after_bytes=21_000_000), origin="cdn")

    path = hf_hub_download("demo/long-GGUF", MODEL, endpoint=hub.url, token=False, cache_dir=tmp_path)

    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256_of(hub, "demo/long-GGUF", MODEL)
    assert hub.ranges(MODEL) == [None, (20_971_520, None)]


def test_a_renamed_repository_redirects(hub: FaultyHub, api: HfApi, tmp_path: Path) -> None:
    hub.add_repository(make_repository("demo/new-GGUF", {MODEL: 600}, renamed_from=("demo/old-GGUF",)))

    assert api.model_info("demo/old-GGUF").id == "demo/new-GGUF"
    assert hf_hub_download("demo/old-GGUF", MODEL, endpoint=hub.url, token=False, cache_dir=tmp_path)


def test_the_token_opens_a_gated_repository_and_never_reaches_the_cdn(hub: FaultyHub, tmp_path: Path) -> None:
    hf_hub_download("demo/gated-GGUF", "gated-Q4_K_M.gguf", endpoint=hub.url, token=GRANTED_TOKEN, cache_dir=tmp_path)

    authorized = [(record.origin, "authorization" in record.headers) for record in hub.requests]
    assert authorized == [("hub", True), ("cdn", False)]


def test_whoami_knows_its_tokens(granted_api: HfApi, hub: FaultyHub) -> None:
    assert granted_api.whoami()["name"] == "demo-user"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(endpoint=hub.url, token="hf_unknown").whoami()


def test_auth_check_refuses_as_the_download_would(hub: FaultyHub, api: HfApi, granted_api: HfApi) -> None:
    granted_api.auth_check("demo/gated-GGUF")

    with pytest.raises(GatedRepoError):
        api.auth_check("demo/gated-GGUF")
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check("demo/nothing")


def test_a_gated_repository_can_be_listed_and_not_downloaded(hub: FaultyHub, api: HfApi, tmp_path: Path) -> None:
    listed = [entry.path for entry in api.list_repo_tree("demo/gated-GGUF")]
    statuses = []
    for token in (False, PLAIN_TOKEN):
        with pytest.raises(GatedRepoError) as refused:
            get_hf_file_metadata(hf_hub_url("demo/gated-GGUF", listed[0], endpoint=hub.url), token=token)
        statuses.append(refused.value.response.status_code)

    assert listed == ["gated-Q4_K_M.gguf"]
    assert statuses == [401, 403]


def test_a_private_repository_is_invisible_to_others(hub: FaultyHub, api: HfApi, granted_api: HfApi) -> None:
    hub.add_repository(make_repository("demo/private-GGUF", {MODEL: 600}, private=True))

    with pytest.raises(RepositoryNotFoundError):
        api.model_info("demo/private-GGUF")
    assert "demo/private-GGUF" not in [model.id for model in api.list_models()]
    assert granted_api.model_info("demo/private-GGUF").private is True


def test_a_missing_repository_revision_or_file_has_its_own_error(hub: FaultyHub, api: HfApi, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("demo/nothing")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(SMALL, revision="nothing")
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(SMALL, "nothing"))
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(SMALL, "nothing.gguf", endpoint=hub.url, token=False, cache_dir=tmp_path)


def test_a_bad_token_is_not_reported_as_a_missing_repository(hub: FaultyHub) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid credentials in Authorization header") as refused:
        HfApi(endpoint=hub.url, token="hf_unknown").model_info(SMALL)

    assert not isinstance(refused.value, RepositoryNotFoundError)


def test_the_bad_token_fault_rejects_a_good_token(hub: FaultyHub, granted_api: HfApi) -> None:
    hub.faults.add(BadToken())

    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        granted_api.model_info(SMALL)


def test_a_disabled_repository_is_refused(hub: FaultyHub, api: HfApi) -> None:
    hub.add_repository(make_repository("demo/disabled-GGUF", {MODEL: 600}, disabled=True))

    with pytest.raises(DisabledRepoError):
        api.model_info("demo/disabled-GGUF")


def test_the_disabled_fault_refuses_any_repository(hub: FaultyHub, api: HfApi) -> None:
    hub.faults.add(Disabled(), path="/api/models/demo/*")

    with pytest.raises(DisabledRepoError):
        api.model_info(SMALL)


@pytest.mark.parametrize(("status", "error"), [(400, BadRequestError), (429, HfHubHTTPError), (503, HfHubHTTPError)])
def test_the_client_reads_a_status_fault_as_that_status(hub: FaultyHub, api: HfApi, status: int, error: type) -> None:
    hub.faults.add(Status(status, error_message="because"))

    with pytest.raises(error) as refused:
        api.model_info(SMALL)

    assert isinstance(refused.value, HfHubHTTPError)
    assert refused.value.response.status_code == status


def test_a_rate_limit_has_a_retry_after(hub: FaultyHub, api: HfApi) -> None:
    hub.faults.add(RateLimited(seconds=55))

    with pytest.raises(HfHubHTTPError, match="Retry after 55 seconds"):
        api.model_info(SMALL)


def test_every_hub_response_has_rate_limit_headers(hub: FaultyHub) -> None:
    listed = ask(f"{hub.url}/api/models/{SMALL}")
    resolved = ask(f"{hub.url}/{SMALL}/resolve/main/{MODEL}", "HEAD")

    api_limit = parse_ratelimit_headers(dict(listed.headers))
    resolver_limit = parse_ratelimit_headers(dict(resolved.headers))
    assert api_limit is not None
    assert resolver_limit is not None
    assert (api_limit.resource_type, api_limit.limit, api_limit.window_seconds) == ("api", 500, 300)
    assert (resolver_limit.resource_type, resolver_limit.limit) == ("resolvers", 3000)


def test_an_expired_url_is_fatal_for_the_client_like_on_the_hub(hub: FaultyHub, tmp_path: Path) -> None:
    hub.faults.add(ExpiredUrl(), origin="cdn", times=None)

    with pytest.raises(HfHubHTTPError) as refused:
        hf_hub_download(SMALL, MODEL, endpoint=hub.url, token=False, cache_dir=tmp_path)

    assert refused.value.response.status_code == 403
    assert "X-Error-Code" not in refused.value.response.headers


def test_a_wrong_byte_is_accepted_by_the_client_like_on_the_hub(hub: FaultyHub, tmp_path: Path) -> None:
    hub.faults.add(WrongBytes(at_byte=299_999), origin="cdn")

    path = hf_hub_download(SMALL, MODEL, endpoint=hub.url, token=False, cache_dir=tmp_path)

    assert Path(path).stat().st_size == 300_000
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() != sha256_of(hub, SMALL, MODEL)


def test_the_client_accepts_a_hub_that_serves_the_file_itself(hub: FaultyHub, tmp_path: Path) -> None:
    hub.faults.add(Direct(), origin="hub", path="*.gguf", times=None)

    path = hf_hub_download(SMALL, MODEL, endpoint=hub.url, token=False, cache_dir=tmp_path)

    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256_of(hub, SMALL, MODEL)
    assert {record.origin for record in hub.requests} == {"hub"}


def test_the_client_accepts_a_compressed_small_file(hub: FaultyHub, tmp_path: Path) -> None:
    hub.faults.add(Gzipped(), path="README.md", method="GET", times=None)

    path = hf_hub_download(SMALL, "README.md", endpoint=hub.url, token=False, cache_dir=tmp_path)

    assert Path(path).read_text() == "# small\n"


def test_the_client_returns_masked_xet_hashes(hub: FaultyHub, api: HfApi) -> None:
    hub.faults.add(MaskedXetHash(), path="*/tree/*")

    entries = {entry.path: entry.xet_hash for entry in api.list_repo_tree(SMALL) if isinstance(entry, RepoFile)}

    assert entries == {MODEL: "*" * 64, "small-Q8_0.gguf": "*" * 64, "README.md": None}


def test_a_branch_can_move_between_two_requests(hub: FaultyHub, api: HfApi) -> None:
    old = hub.repositories[SMALL].names["main"]
    hub.faults.add(Then(lambda: hub.move_branch(SMALL, "main", make_files({MODEL: 1000}))), method="HEAD")
    url = hf_hub_url(SMALL, MODEL, endpoint=hub.url)

    before, after = get_hf_file_metadata(url, token=False), get_hf_file_metadata(url, token=False)

    assert (before.commit_hash, before.size) == (old, 300_000)
    assert (after.commit_hash, after.size) == (hub.repositories[SMALL].names["main"], 1000)


def test_a_stopped_hub_refuses_connections(hub: FaultyHub) -> None:
    url = hf_hub_url(SMALL, MODEL, endpoint=hub.url)
    hub.stop()

    with pytest.raises(httpx.ConnectError):
        get_hf_file_metadata(url, token=False)
