"""Where files are stored: no name from a hub leads outside the models folder, on any system."""

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gglib_nb.domain.names import check_length, target_path
from gglib_nb.errors import InvalidRepoIdError, RequestError

MODELS = Path("/models")

nasty_parts = st.one_of(
    st.sampled_from(
        ["", ".", "..", "...", "C:", "C:x", "\\\\server\\share", "~", "con", "NUL.gguf", "a\0b", ".. ", "a"]
    ),
    st.text(max_size=8),
)


def test_a_file_is_stored_under_its_owner_and_repository() -> None:
    assert target_path(MODELS, "owner/repo", "BF16/m-00001-of-00002.gguf") == Path(
        "/models/owner/repo/BF16/m-00001-of-00002.gguf"
    )


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x.gguf",
        "a/../../x.gguf",
        "a//b.gguf",
        "./a.gguf",
        "a/",
        "..\\x.gguf",
        "\\\\server\\share\\x.gguf",
        "C:/x.gguf",
        "C:x.gguf",
        "x.gguf:stream",
        "x\0.gguf",
        "a/\n/x.gguf",
        "NUL",
        "con.gguf",
        "sub/Aux.tar.gz",
        "LPT1 .gguf",
        "COM¹.gguf",
        ".. /x.gguf",
        "x.gguf.",
        "x.gguf ",
        "\ud800.gguf",
        "\x1b[2J.gguf",
        "m\x9b31m.gguf",
        "m\u2028.gguf",
        "m\u202efugg.exe",
        "m\u2066x.gguf",
        f"{'x' * 251}.gguf",
        f"sub/{'ä' * 126}.gguf",
    ],
)
def test_a_name_that_could_leave_the_folder_is_refused(path: str) -> None:
    with pytest.raises(RequestError, match="cannot be stored here"):
        target_path(MODELS, "owner/repo", path)


@pytest.mark.parametrize(
    "path",
    [
        f"{'x' * 250}.gguf",
        "<img src=x onerror=alert(1)>.gguf",
        'it\'s "so" `here`.gguf',
        "مثال.gguf",
        "Größe Q4.gguf",
        "a.b/c..d.gguf",
        ".cache/x.gguf",
        "console.gguf",
        "~x.gguf",
        "模型.gguf",
    ],
)
def test_an_odd_but_harmless_name_is_kept(path: str) -> None:
    assert target_path(MODELS, "owner/repo", path) == MODELS / "owner" / "repo" / path


@pytest.mark.parametrize("repo_id", ["repo", "../repo", "owner/..", "a/b/c", "/abs", "owner/re po"])
def test_an_invalid_repository_id_is_refused(repo_id: str) -> None:
    with pytest.raises(InvalidRepoIdError):
        target_path(MODELS, repo_id, "x.gguf")


def test_a_long_name_is_refused_with_a_short_message() -> None:
    with pytest.raises(RequestError) as caught:
        target_path(MODELS, "owner/repo", "x" * 1_000_000)

    assert len(str(caught.value)) < 400


def test_a_repository_named_like_a_windows_device_is_refused() -> None:
    with pytest.raises(RequestError, match="device"):
        target_path(MODELS, "owner/nul", "x.gguf")


@given(st.lists(nasty_parts, max_size=5).map("/".join))
@example("a/../../../etc/passwd")
@example("C:\\x")
def test_no_path_is_outside_the_folder(path: str) -> None:
    try:
        target = target_path(MODELS, "owner/repo", path)
    except RequestError:
        return

    inside = target.relative_to(MODELS / "owner" / "repo")
    seen_by_windows = PureWindowsPath("D:/models/owner/repo").joinpath(*path.split("/"))
    assert inside.parts
    assert ".." not in inside.parts
    assert ".." not in seen_by_windows.parts
    assert seen_by_windows.is_relative_to("D:/models/owner/repo")
    assert inside.as_posix() == path


_WORDS = st.sampled_from(["con", "Con.gguf", "aux ", "lpt1.txt", "COM9", "nul", "a", "model", "x" * 120])
_ENDS = st.sampled_from(["", ".", " ", "..", ".gguf", "\\", "\\b", ":s"])


@given(st.lists(st.tuples(_WORDS, _ENDS).map("".join), min_size=1, max_size=3).map("/".join))
def test_an_accepted_name_is_one_file_of_that_name_on_windows(path: str) -> None:
    try:
        target_path(MODELS, "owner/repo", path)
    except RequestError:
        return

    seen = PureWindowsPath(path)
    assert seen.parts == tuple(path.split("/"))
    assert not seen.drive
    assert not any(
        part[-1] in ". " or part.split(".")[0].strip().upper() in ("CON", "AUX", "NUL") for part in seen.parts
    )


@given(st.integers(1, 400))
def test_a_path_and_its_sidecar_files_stay_below_the_windows_limit(length: int) -> None:
    target = Path("/" + "m" * (length - 1))
    beside = f"{target}.part.lease.0123456789abcdef"

    if len(beside) > 259:
        with pytest.raises(RequestError, match=str(length)):
            check_length(target, 259)
    else:
        check_length(target, 259)
    check_length(target, None)


@given(st.text(st.sampled_from('ab.<>"|?*'), max_size=8), st.sampled_from(["D:\\models", "\\\\?\\D:\\models"]))
def test_characters_forbidden_on_windows_are_refused_only_there(name, models) -> None:
    path = f"x{name}x.gguf"

    if set('<>"|?*') & set(name):
        with pytest.raises(RequestError, match="Windows does not allow"):
            target_path(PureWindowsPath(models), "owner/repo", path)
    else:
        assert target_path(PureWindowsPath(models), "owner/repo", path).name == path
    assert target_path(PurePosixPath("/models"), "owner/repo", path).name == path


@given(text=st.text(st.characters(max_codepoint=0x1F), min_size=1, max_size=3))
@pytest.mark.parametrize("models", [MODELS, PureWindowsPath("D:\\models")])
def test_control_characters_are_refused_everywhere(models, text) -> None:
    with pytest.raises(RequestError, match="control character"):
        target_path(models, "owner/repo", f"x{text}x.gguf")
