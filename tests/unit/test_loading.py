"""The code that loads a model in other programs, as each program documents it."""

import ast
import json
import shlex

import pytest

from gglib_nb.domain.loading import PROGRAMS, loading_lines
from gglib_nb.errors import RequestError
from tests.support.catalog_models import model, stored

PLAIN = model("owner/name-GGUF:Q4_K_M", stored("/my models/owner/name-GGUF/name-Q4_K_M.gguf"))
VISION = model("owner/see-GGUF:Q8_0", stored("/m/see.gguf"), stored("/m/mmproj.gguf", kind="mmproj"))
SPLIT = model("owner/big-GGUF:Q4_K_M", *(stored(f"/m/big-{number:05}-of-00002.gguf") for number in (1, 2)))


def test_llama_cpp_python_gets_code_that_opens_the_first_file() -> None:
    code = loading_lines(PLAIN, "llama-cpp-python")

    call = ast.parse(code).body[-1].value
    assert {word.arg: ast.literal_eval(word.value) for word in call.keywords} == {"model_path": PLAIN.paths[0]}


def test_llama_cpp_python_gets_a_chat_handler_for_a_projector() -> None:
    code = loading_lines(VISION, "llama-cpp-python")

    ast.parse(code)
    assert 'chat_handler=MTMDChatHandler(clip_model_path="/m/mmproj.gguf")' in code


def test_llama_server_gets_one_line_that_a_shell_reads() -> None:
    assert shlex.split(loading_lines(PLAIN, "llama-server")) == ["llama-server", "-m", PLAIN.paths[0]]
    assert loading_lines(VISION, "llama-server") == "llama-server -m /m/see.gguf --mmproj /m/mmproj.gguf"
    assert loading_lines(SPLIT, "llama-server") == "llama-server -m /m/big-00001-of-00002.gguf"


def test_ollama_gets_a_modelfile_with_the_path_and_the_projector() -> None:
    assert loading_lines(VISION, "ollama").splitlines() == [
        "cat > Modelfile <<'END'",
        "FROM /m/see.gguf",
        "FROM /m/mmproj.gguf",
        "END",
        "ollama create see-gguf:q8_0 -f Modelfile",
        "ollama run see-gguf:q8_0",
    ]


@pytest.mark.parametrize("path", ["/my models/name.gguf", r'C:\my "own"\m.gguf'])
def test_nothing_is_quoted_or_escaped_in_a_modelfile(path: str) -> None:
    assert loading_lines(model("owner/name:Q4_K_M", stored(path)), "ollama").splitlines()[1] == f"FROM {path}"


def test_ollama_takes_the_shards_of_a_split_model() -> None:
    assert [line for line in loading_lines(SPLIT, "ollama").splitlines() if line.startswith("FROM")] == [
        "FROM /m/big-00001-of-00002.gguf",
        "FROM /m/big-00002-of-00002.gguf",
    ]


@pytest.mark.parametrize(
    ("draft", "kind"),
    [
        ("mtp-name-Q4_0.gguf", "draft-mtp"),
        ("gemma-4-E4B-it-assistant-Q8_0.gguf", "draft-mtp"),
        ("name-eagle3-Q8_0.gguf", "draft-eagle3"),
        ("dflash-name.gguf", "draft-dflash"),
        ("name-DSpark-Q8_0.gguf", "draft-dspark"),
        ("MTP/name-Q8_0.gguf", "draft-mtp"),
        ("dspark/drafter-Q4_0.gguf", "draft-dspark"),
        ("name-DRAFT-0.5B.gguf", "draft-simple"),
    ],
)
def test_a_draft_model_is_included_if_the_program_supports_one(draft: str, kind: str) -> None:
    facts = {"architecture": "dflash"} if kind in ("draft-dflash", "draft-dspark") else {}
    companion = stored(f"/m/{draft}", kind="draft", facts=facts, path_in_repo=draft)
    fast = model("owner/name-GGUF:Q8_0", stored("/m/name.gguf"), companion)

    assert loading_lines(fast, "llama-server") == f"llama-server -m /m/name.gguf -md /m/{draft} --spec-type {kind}"
    assert f"DRAFT /m/{draft}" in loading_lines(fast, "ollama").splitlines()
    assert draft not in loading_lines(fast, "llama-cpp-python")


def test_llama_swap_gets_an_entry_whose_command_a_shell_reads() -> None:
    *_, command = loading_lines(PLAIN, "llama-swap").splitlines()

    words = shlex.split(json.loads(command.strip().removeprefix("cmd: ")))
    assert words == ["llama-server", "--port", "${PORT}", "-m", PLAIN.paths[0]]


def test_ramalama_gets_the_path() -> None:
    assert shlex.split(loading_lines(PLAIN, "ramalama")) == ["ramalama", "serve", f"file://{PLAIN.paths[0]}"]


def test_transformers_gets_folder_and_file() -> None:
    code = loading_lines(PLAIN, "transformers")

    call = ast.parse(code).body[-1].value
    assert [ast.literal_eval(one) for one in call.args] == ["/my models/owner/name-GGUF"]
    assert {word.arg: ast.literal_eval(word.value) for word in call.keywords} == {"gguf_file": "name-Q4_K_M.gguf"}


@pytest.mark.parametrize("program", ["vllm", "transformers"])
def test_programs_that_take_one_file_get_a_command_to_join_a_split_model(program: str) -> None:
    lines = loading_lines(SPLIT, program)

    assert "llama-gguf-split --merge /m/big-00001-of-00002.gguf ./big-gguf-q4_k_m.gguf" in lines


def test_lm_studio_gets_a_link_for_each_file_in_the_folder_of_its_repository() -> None:
    lines = [shlex.split(line) for line in loading_lines(VISION, "lmstudio").splitlines()]

    head = ["lms", "import", "--yes", "--symbolic-link", "--user-repo", "owner/see-GGUF"]
    assert lines == [[*head, "/m/see.gguf"], [*head, "/m/mmproj.gguf"]]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_listed_program_has_loading_code(program: str) -> None:
    assert "name-Q4_K_M.gguf" in loading_lines(PLAIN, program)


def test_an_unknown_program_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match="llama-cpp-python, llama-server, llama-swap, ollama, lmstudio"):
        loading_lines(PLAIN, "winamp")


@pytest.mark.parametrize(
    "path", ['/m/it\'s "so"\nEND\nrm -rf ~\n/m.gguf', '/m/");import os#.gguf', "/m/`x` $(y) ${z}.gguf"]
)
def test_quotes_and_newlines_in_a_path_are_escaped(path: str) -> None:
    one = model("owner/name-GGUF:Q4_K_M", stored(path))

    call = ast.parse(loading_lines(one, "llama-cpp-python")).body[-1].value
    assert [ast.literal_eval(word.value) for word in call.keywords] == [path]
    assert shlex.split(loading_lines(one, "llama-server")) == ["llama-server", "-m", path]
    assert path in shlex.split(loading_lines(one, "lmstudio"))
    assert loading_lines(one, "ollama").splitlines().count("END") == 1
