"""Settings: what the environment may say, what cannot work, and that the token is never shown."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gglib_nb.errors import InvalidConfigError
from gglib_nb.settings import Settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, so that no default names the one of who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_an_empty_environment_gives_the_defaults(home: Path) -> None:
    settings = Settings.from_environment({})

    assert settings == Settings()
    assert settings.endpoint == "https://huggingface.co"
    assert settings.token is None
    assert (settings.max_concurrent, settings.max_queue_size, settings.max_connections) == (1, 10, 16)
    assert settings.bandwidth_limit_bytes_per_second is None
    assert settings.is_offline is False
    assert settings.models_directory.is_relative_to(home)
    assert settings.models_directory.name == "models"
    assert settings.database_path.parent == settings.state_directory
    assert settings.hub_cache == home / ".cache" / "huggingface" / "hub"


def test_the_environment_names_the_folders(home: Path) -> None:
    settings = Settings.from_environment({"GGLIB_MODELS_DIR": "~/gguf", "GGLIB_STATE_DIR": "state"})

    assert settings.models_directory == home / "gguf"
    assert settings.state_directory == home / "state"


def test_an_empty_variable_is_as_none() -> None:
    environ = {"GGLIB_MODELS_DIR": "", "GGLIB_STATE_DIR": " ", "HF_ENDPOINT": "", "HF_HUB_OFFLINE": "", "HF_HOME": ""}

    assert Settings.from_environment(environ) == Settings()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HUB_CACHE": "/cache", "HF_HOME": "/hf"}, "/cache"),
        ({"HF_HOME": "/hf", "XDG_CACHE_HOME": "/xdg"}, "/hf/hub"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/huggingface/hub"),
    ],
)
def test_the_hub_cache_is_where_huggingface_hub_has_it(environ: dict[str, str], expected: str) -> None:
    assert Settings.from_environment(environ).hub_cache == Path(expected)


@pytest.mark.parametrize("value", ["1", "on", "Yes", "TRUE"])
@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_is_read_as_the_hub_reads_it(name: str, value: str) -> None:
    assert Settings.from_environment({name: value}).is_offline is True
    assert Settings.from_environment({name: "0"}).is_offline is False


def test_the_endpoint_loses_the_slash_at_its_end() -> None:
    assert (
        Settings.from_environment({"HF_ENDPOINT": "http://127.0.0.1:8080/hub/"}).endpoint == "http://127.0.0.1:8080/hub"
    )


@pytest.mark.parametrize(
    "endpoint",
    [
        "huggingface.co",
        "ftp://hub",
        "http://",
        "http://hub:port",
        "http://hub/?a=b",
        "http://me:secret@hub",
        "http://a b",
    ],
)
def test_an_endpoint_that_cannot_work_is_refused_without_repeating_it(endpoint: str) -> None:
    with pytest.raises(InvalidConfigError, match="HF_ENDPOINT") as caught:
        Settings(endpoint=endpoint)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["max_concurrent", "max_queue_size", "max_connections", "bandwidth_limit_bytes_per_second"]
)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_a_count_that_is_no_whole_number_from_one_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidConfigError, match=f"{name} is {re.escape(repr(value))}"):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_a_thousand_connections_are_refused() -> None:
    with pytest.raises(InvalidConfigError, match="from 1 to 64"):
        Settings(max_connections=1000)


def test_a_folder_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="models_directory"):
        Settings(models_directory=Path("a\0b"))


def test_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="no such home folder"):
        Settings(models_directory=Path("~nobody-of-this-name/models"))


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(InvalidConfigError):
        replace(Settings(), max_queue_size=0)


def test_the_token_is_kept_without_its_blanks_and_never_shown() -> None:
    settings = Settings(token=" hf_secret\n")

    assert settings.token == "hf_secret"
    assert "hf_secret" not in repr(settings)


def test_a_blank_token_is_none() -> None:
    assert Settings(token="  ").token is None


def test_a_token_that_no_header_can_carry_is_refused_without_repeating_it() -> None:
    with pytest.raises(InvalidConfigError, match="paste it again") as caught:
        Settings(token="hf_sec\nret")

    assert "sec" not in str(caught.value)
