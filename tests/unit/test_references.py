"""How a download is named: text to id and back, and what a user may paste."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.download import DownloadStatus
from gglib_nb.domain.names import DownloadId, check_repo_id
from gglib_nb.domain.references import find_download, is_beginning, parse_pasted
from gglib_nb.errors import InvalidRepoIdError, NotInQueueError
from tests.support.snapshots import download, snapshot

NAMES = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,20}[A-Za-z0-9_])?", fullmatch=True)
REPO_IDS = st.tuples(NAMES, NAMES).map("/".join)
TAILS = st.text(st.characters(exclude_characters="/:", exclude_categories=["C"]), min_size=1, max_size=30)
REVISIONS = st.from_regex(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}", fullmatch=True)
IDS = st.builds(DownloadId, REPO_IDS, st.none() | TAILS, st.none() | REVISIONS)


@given(IDS)
def test_the_text_of_an_id_parses_to_the_id(id_):
    assert DownloadId.parse(str(id_)) == id_


@given(st.text(max_size=60))
def test_every_text_parses_and_its_text_form_is_stable(text):
    parsed = DownloadId.parse(text)

    assert DownloadId.parse(str(parsed)) == parsed


@given(st.text(max_size=60))
def test_a_parsed_quantization_is_not_empty_and_has_no_slash(text):
    tail = DownloadId.parse(text).quantization

    assert tail is None or (tail and "/" not in tail)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("owner/repo", DownloadId("owner/repo")),
        ("owner/repo:Q4_K_M", DownloadId("owner/repo", "Q4_K_M")),
        ("owner/repo@v1.0:Q4_K_M", DownloadId("owner/repo", "Q4_K_M", "v1.0")),
        ("owner/repo@refs/pr/1", DownloadId("owner/repo", None, "refs/pr/1")),
        ("owner/repo@refs/pr/1:Q8_0", DownloadId("owner/repo", "Q8_0", "refs/pr/1")),
        ("owner/repo:model@v2-Q4_K_M", DownloadId("owner/repo", "model@v2-Q4_K_M")),
        # The last colon followed by a non-empty text without a slash.
        ("a/b:c:Q4", DownloadId("a/b:c", "Q4")),
        ("a/b:", DownloadId("a/b:")),
        ("a:b/c", DownloadId("a:b/c")),
        ("a/b:Q4:", DownloadId("a/b", "Q4:")),
        ("owner/repo@", DownloadId("owner/repo")),
        ("", DownloadId("")),
    ],
)
def test_an_id_is_parsed_into_repository_revision_and_quantization(text, parsed):
    assert DownloadId.parse(text) == parsed


def test_the_group_id_is_the_text_of_the_id():
    assert DownloadId("owner/repo", "Q4_K_M", "v1").group_id == "owner/repo@v1:Q4_K_M"


# What users paste


@given(IDS)
def test_an_id_can_be_pasted(id_):
    if id_.repo_id.count("--") == id_.repo_id.count("..") == 0:
        assert parse_pasted(f" {id_}\n") == id_


@pytest.mark.parametrize(
    ("pasted", "text"),
    [
        ("https://huggingface.co/owner/repo", "owner/repo"),
        ("http://www.huggingface.co/owner/repo/", "owner/repo"),
        ("HuggingFace.co/owner/repo", "owner/repo"),
        ("hf.co/owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        ("hf.co/owner/repo@v1:Q4_K_M", "owner/repo@v1:Q4_K_M"),
        ("https://huggingface.co/owner/repo/tree/main", "owner/repo"),
        ("https://huggingface.co/owner/repo/tree/v1.0", "owner/repo@v1.0"),
        ("https://huggingface.co/owner/repo/tree/refs%2Fpr%2F1", "owner/repo@refs/pr/1"),
        ("https://huggingface.co/owner/repo/tree/main/UD-Q4_K_XL", "owner/repo:UD-Q4_K_XL"),
        ("https://huggingface.co/owner/repo/blob/main/repo-Q4_K_M.gguf", "owner/repo:repo-Q4_K_M.gguf"),
        ("https://huggingface.co/owner/repo/resolve/v1/Q8/a%20b.gguf?download=true", "owner/repo@v1:Q8/a b.gguf"),
        ("https://huggingface.co/owner/repo/discussions/3#a", "owner/repo"),
        ("https://huggingface.co/owner/repo?library=gguf", "owner/repo"),
        ("https://huggingface.co/owner/repo?show_file_info=repo-Q8_0.gguf", "owner/repo:repo-Q8_0.gguf"),
        ("https://huggingface.co/owner/repo/tree/v1?show_file_info=Q8%2Fa.gguf", "owner/repo@v1:Q8/a.gguf"),
        ("https://huggingface.co/owner/repo/commit/0123abc", "owner/repo@0123abc"),
        ("https://huggingface.co/owner/repo/commits/main", "owner/repo"),
        ("hf://owner/repo", "owner/repo"),
        ("https://hf-mirror.com/owner/repo/resolve/main/repo-Q4_0.gguf", "owner/repo:repo-Q4_0.gguf"),
        ("owner/repo:sub/file.gguf", "owner/repo:sub/file.gguf"),
        ("owner/repo:my model-Q4_0.gguf", "owner/repo:my model-Q4_0.gguf"),
        ("https://huggingface.co/owner/repo/blob/main/my model-Q4_0.gguf", "owner/repo:my model-Q4_0.gguf"),
        ("owner/repo@v1:sub/file.gguf", "owner/repo@v1:sub/file.gguf"),
        ("hf://owner/repo/file.gguf", "owner/repo:file.gguf"),
        ("hf://models/owner/repo@rev/sub/file", "owner/repo@rev:sub/file"),
        ("hf://owner/repo@refs%2Fpr%2F1/a.gguf", "owner/repo@refs/pr/1:a.gguf"),
        ("hf://owner/repo@refs/pr/1/a.gguf", "owner/repo@refs/pr/1:a.gguf"),
        ("https://huggingface.co/owner/repo/tree/refs/pr/12", "owner/repo@refs/pr/12"),
        ("https://huggingface.co/api/models/owner/repo", "owner/repo"),
        ("https://me:hf_secret@huggingface.co/owner/repo", "owner/repo"),
        ("git clone git@hf.co:owner/repo.git", "owner/repo"),
        ("https://huggingface.co/owner/repo/Q4_K_M/a.gguf", "owner/repo:Q4_K_M/a.gguf"),
    ],
)
def test_a_page_address_gives_repository_revision_and_file(pasted, text):
    assert str(parse_pasted(pasted)) == text
    check_repo_id(parse_pasted(pasted).repo_id)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("llama-server -hf owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        ("./build/bin/llama-server -c 4096 -hf owner/repo:Q4_K_M --port 8/0", "owner/repo:Q4_K_M"),
        ("llama-cli --hf-repo=owner/repo --hf-file sub/x.gguf", "owner/repo:sub/x.gguf"),
        ("ollama run hf.co/owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        ("$ ollama run --verbose 'hf.co/owner/repo:latest'", "owner/repo"),
        ("hf download owner/repo sub/file-Q4_0.gguf --local-dir models/here", "owner/repo:sub/file-Q4_0.gguf"),
        ("huggingface-cli download owner/repo --revision v2 --include *.gguf", "owner/repo@v2"),
        ('huggingface-cli download owner/repo --include "m-Q8_0.gguf" --local-dir ./', "owner/repo:m-Q8_0.gguf"),
        ("hf download owner/repo --include '*Q5_K_M*' --local-dir here", "owner/repo:Q5_K_M"),
        ("hf download owner/repo --include=*-Q5_K_M.gguf", "owner/repo:Q5_K_M"),
        ("hf download owner/repo --include m-UD-IQ1_S/*", "owner/repo:m-UD-IQ1_S"),
        ('hf download owner/repo --include="m-Q8_0*" --revision="v1"', "owner/repo@v1:m-Q8_0"),
        ("hf download owner/repo --include '*Q8_0*' 'mmproj-F16.gguf'", "owner/repo:Q8_0"),
        ("hf download owner/repo --include '*Q8_0*' --include '*mmproj*'", "owner/repo:Q8_0"),
        ("hf download owner/repo mmproj-F16.gguf m-Q8_0.gguf", "owner/repo:m-Q8_0.gguf"),
        ("hf download owner/repo mmproj-F16.gguf", "owner/repo:mmproj-F16.gguf"),
        ('Llama.from_pretrained(repo_id="owner/repo", filename="*q8_0.gguf")', "owner/repo:q8_0"),
        ('LLAMA_CACHE="owner/folder" ./llama-cli -hf owner/repo:Q8_0', "owner/repo:Q8_0"),
        ("ollama run modelscope.cn/owner/repo:Q8_0", "ms--owner/repo:Q8_0"),
        ("modelscope download --model owner/repo", "ms--owner/repo"),
        ("modelscope download --local_dir ./a/b --model=owner/repo m-Q8_0.gguf", "ms--owner/repo:m-Q8_0.gguf"),
        ("modelscope download --model https://modelscope.cn/models/owner/repo", "ms--owner/repo"),
        ("MODEL_ENDPOINT=https://www.modelscope.cn/ llama-server -hf owner/repo:Q8_0", "ms--owner/repo:Q8_0"),
        ("MODEL_ENDPOINT=https://hf-mirror.com/ llama-server -hf owner/repo:Q8_0", "owner/repo:Q8_0"),
        ("hf download --revision= owner/repo m-Q8_0.gguf", "owner/repo:m-Q8_0.gguf"),
        ("hf download owner/repo --revision='' --include '*Q8_0*'", "owner/repo:Q8_0"),
        ("uvx --from huggingface_hub hf download owner/repo", "owner/repo"),
        ("koboldcpp --model https://huggingface.co/owner/repo/resolve/main/m-Q8_0.gguf", "owner/repo:m-Q8_0.gguf"),
        ("lms get owner/repo@q4_k_m", "owner/repo:q4_k_m"),
        ("$ lms get https://huggingface.co/owner/repo@Q8_0 --yes", "owner/repo:Q8_0"),
        ("!ollama run hf.co/owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        (">owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        ("%gguf queue owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        ("! hf download owner/repo a-Q8_0.gguf", "owner/repo:a-Q8_0.gguf"),
        ("uvx hf download owner/repo a-Q8_0.gguf", "owner/repo:a-Q8_0.gguf"),
        ("$ sudo docker model run hf.co/owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        ("docker model run hf.co/owner/repo:Q4_K_M", "owner/repo:Q4_K_M"),
        ("vllm serve owner/repo:Q4_K_M --tokenizer other/base", "owner/repo:Q4_K_M"),
        ("git clone https://huggingface.co/owner/repo", "owner/repo"),
        ("git clone https://huggingface.co/owner/repo.git", "owner/repo"),
        ("hf download owner/repo --endpoint https://hf-mirror.com", "owner/repo"),
        ("wget -c https://huggingface.co/owner/repo/resolve/main/m-Q8_0.gguf", "owner/repo:m-Q8_0.gguf"),
        ("curl -o models/m.gguf -L https://hf.co/owner/repo/resolve/v1/m-Q8_0.gguf", "owner/repo@v1:m-Q8_0.gguf"),
    ],
)
def test_a_command_of_another_program_gives_its_repository(command, text):
    assert str(parse_pasted(command)) == text


@pytest.mark.parametrize(
    "pasted",
    [
        "",
        "repo",
        "owner/",
        "/repo",
        "owner/repo/file.gguf",
        "https://huggingface.co/",
        "https://huggingface.co/owner",
        "https://example.org/owner/repo",
        "https://huggingface.co/owner/repo/tree/a:b/c",
        "../../etc/passwd",
        "owner/re po",
        "owner/repo\x00",
    ],
)
def test_text_without_a_repository_is_refused_with_the_expected_form(pasted):
    with pytest.raises(InvalidRepoIdError, match=r"is not a repository id. Write owner/name"):
        parse_pasted(pasted)


@pytest.mark.parametrize("pasted", ["$HOME/models", "$HOME/models:Q4_K_M", "$ $HOME/models"])
def test_a_dollar_sign_is_a_prompt_only_before_a_space(pasted):
    with pytest.raises(InvalidRepoIdError):
        parse_pasted(pasted)


@pytest.mark.parametrize(
    "pasted",
    [
        "owner/repo Q4_K_M",
        "%gguf queue owner/repo Q4_K_M",
        "%gguf queue owner/repo:Q4_K_M --force",
        "%gguf plan owner/repo Q4_K_M --force",
    ],
)
def test_a_pasted_line_of_ours_that_cannot_be_used_says_which_id_it_means(pasted):
    with pytest.raises(InvalidRepoIdError, match=r"is not a repository id\. Did you mean owner/repo:Q4_K_M\?$"):
        parse_pasted(pasted)


@pytest.mark.parametrize(
    "pasted",
    [
        "https://huggingface.co/datasets/owner/name",
        "hf.co/spaces/owner/name/tree/main",
        "hf://datasets/owner/name/file.gguf",
        "https://huggingface.co/collections/owner/name-0123456789abcdef",
        "git clone https://huggingface.co/datasets/owner/name",
        "https://www.modelscope.cn/organization/owner",
        "https://modelscope.cn/profile/owner",
        "https://modelscope.cn/collections/name-0123456789abcdef",
    ],
)
def test_the_page_of_something_else_is_not_looked_up_as_a_model(pasted):
    with pytest.raises(InvalidRepoIdError, match=r"is not the page of a model\."):
        parse_pasted(pasted)


def test_an_id_with_its_quantization_says_how_to_write_the_two():
    with pytest.raises(InvalidRepoIdError, match=r"Write 'owner/repo', and 'Q4_K_M' as the quantization\."):
        check_repo_id("owner/repo:Q4_K_M")


@given(st.text(max_size=80))
def test_any_pasted_text_is_parsed_as_an_id_or_refused(text):
    try:
        check_repo_id(parse_pasted(text).repo_id)
    except InvalidRepoIdError:
        return


@pytest.mark.parametrize("repo_id", ["a/b", "TheBloke/Llama-2-7B-GGUF", "_o/r_", "o/r.v1.5", f"{'o' * 45}/{'r' * 50}"])
def test_a_repository_id_is_owner_and_name(repo_id):
    check_repo_id(repo_id)


@pytest.mark.parametrize(
    "repo_id",
    ["b", "a/b/c", "a/..", "a/b..c", "a/b--c", "-a/b", "a/b-", ".a/b", "a/b.", f"{'o' * 46}/{'r' * 50}", "a/b\n"],
)
def test_an_id_that_the_hub_would_reject_is_refused_without_a_request(repo_id):
    with pytest.raises(InvalidRepoIdError):
        check_repo_id(repo_id)


@pytest.mark.parametrize(
    ("text", "is_other"),
    [
        ("owner/name", True),
        ("owner/name-2", False),
        ("OWNER/name-2:q6_k_l", False),
        ("owner/name-2:Q6_K", True),
        ("name-2", False),
        ("name-2:Q6", False),
        ("#1", False),
    ],
)
def test_an_id_that_only_begins_another_is_recognized(text, is_other):
    assert is_beginning(text, DownloadId.parse("owner/name-2:Q6_K_L")) is is_other


def test_an_id_of_the_default_branch_is_not_that_of_a_kept_version() -> None:
    kept = DownloadId("owner/name", "Q6_K", "c" * 40)

    assert is_beginning("owner/name:Q6_K", kept)
    assert not is_beginning(str(kept), kept)


def test_an_id_that_only_begins_that_of_a_failure_clears_none():
    failed = snapshot(recent_failures=(download("owner/name:Q6_K_L", DownloadStatus.FAILED),))
    cleared = partial(find_download, snapshot=failed, group="recent_failures", is_discarded=True)

    with pytest.raises(NotInQueueError, match=r"Did you mean owner/name:Q6_K_L\?$"):
        cleared("owner/name:Q6_K")
    assert cleared("name") == cleared("#1") == DownloadId("owner/name", "Q6_K_L")
