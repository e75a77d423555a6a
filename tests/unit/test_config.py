"""Both kinds of manager obey the environment as the README's table says: an argument, else a variable, else a default."""

from dataclasses import fields
from pathlib import Path

import pytest

from gglib_nb import DownloadManagerConfig
from gglib_nb.domain.hours import DailyHours
from gglib_nb.errors import InvalidConfigError
from gglib_nb.notebook.profile import Gglib
from gglib_nb.notebook.setting_words import SETTINGS
from gglib_nb.settings import ENVIRONMENT_VARIABLES, Settings

ROWS = [
    ("models_directory", "GGLIB_MODELS_DIR", "/env/models", Path("/env/models"), Path("/own/models")),
    ("state_directory", "GGLIB_STATE_DIR", "/env/state", Path("/env/state"), Path("/own/state")),
    ("endpoint", "HF_ENDPOINT", "http://env:1", "http://env:1", "http://own:2"),
    ("hub_cache", "HF_HUB_CACHE", "/env/cache", Path("/env/cache"), Path("/own/cache")),
    ("hub_cache", "HF_HOME", "/env/hf", Path("/env/hf/hub"), Path("/own/cache")),
    ("hub_cache", "XDG_CACHE_HOME", "/env/xdg", Path("/env/xdg/huggingface/hub"), Path("/own/cache")),
    ("max_concurrent", "GGLIB_MAX_CONCURRENT", "3", 3, 2),
    ("max_queue_size", "GGLIB_MAX_QUEUE_SIZE", "30", 30, 20),
    ("max_connections", "GGLIB_MAX_CONNECTIONS", "8", 8, 4),
    ("bandwidth_limit_bytes_per_second", "GGLIB_BANDWIDTH_BYTES_PER_SECOND", "5000000", 5_000_000, 1_000),
    ("download_hours", "GGLIB_DOWNLOAD_HOURS", "22-7", DailyHours.parse("22:00-7:00"), DailyHours.parse("1:00-5:00")),
    ("activity_interval_s", "GGLIB_ACTIVITY_INTERVAL_S", "0", 0, 30),
    ("network_wait_s", "GGLIB_NETWORK_WAIT_S", "60", 60, 7),
    ("engine", "GGLIB_ENGINE", "dask://env:8786", "dask://env:8786", "dask://own:8786"),
    ("is_offline", "HF_HUB_OFFLINE", "1", True, False),
    ("is_offline", "TRANSFORMERS_OFFLINE", "1", True, False),
]
NAMES = [f"{name} by {variable}" for name, variable, *_ in ROWS]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for _name, variable, *_ in ROWS:
        monkeypatch.delenv(variable, raising=False)
    return monkeypatch


def of_the_kernel(environ: dict[str, str]) -> Settings:
    return DownloadManagerConfig.from_settings(Settings.from_environment(environ)).settings()


def test_every_setting_and_variable_has_its_row() -> None:
    expected = {(name, variable) for name, variables in ENVIRONMENT_VARIABLES.items() for variable in variables}
    settings = {field.name for field in fields(DownloadManagerConfig)} - {"hf_token"}

    assert {(name, variable) for name, variable, *_ in ROWS} == expected
    assert set(ENVIRONMENT_VARIABLES) == settings == set(SETTINGS) == set(Gglib.class_own_traits(config=True))


def test_without_arguments_and_variables_the_defaults_hold_and_the_folder_is_the_present_one() -> None:
    config = DownloadManagerConfig()

    assert config.models_directory == Path()
    assert (config.max_concurrent, config.max_queue_size, config.max_connections) == (1, 10, 16)
    assert (config.endpoint, config.hf_token, config.bandwidth_limit_bytes_per_second) == (None, None, None)
    assert config.settings() == Settings(models_directory=Path.cwd())


@pytest.mark.parametrize(("name", "variable", "text", "value", "argument"), ROWS, ids=NAMES)
def test_a_manager_made_by_hand_reads_the_variable(environment, name, variable, text, value, argument) -> None:
    environment.setenv(variable, text)

    assert getattr(DownloadManagerConfig().settings(), name) == value


@pytest.mark.parametrize(("name", "variable", "text", "value", "argument"), ROWS, ids=NAMES)
def test_an_argument_has_the_last_word(environment, name, variable, text, value, argument) -> None:
    environment.setenv(variable, text)

    assert getattr(DownloadManagerConfig(**{name: argument}).settings(), name) == argument


@pytest.mark.parametrize(("name", "variable", "text", "value", "argument"), ROWS, ids=NAMES)
def test_the_kernels_own_manager_reads_the_variable(name, variable, text, value, argument) -> None:
    assert getattr(of_the_kernel({variable: text}), name) == value


@pytest.mark.parametrize("text", ["two", "-1", "1.5", "²"])
def test_a_number_that_is_none_is_refused_with_its_variable(environment, text) -> None:
    environment.setenv("GGLIB_MAX_CONCURRENT", text)

    with pytest.raises(InvalidConfigError, match="GGLIB_MAX_CONCURRENT is"):
        DownloadManagerConfig()


def test_a_number_out_of_range_is_refused(environment) -> None:
    environment.setenv("GGLIB_MAX_CONNECTIONS", "1000")

    with pytest.raises(InvalidConfigError, match="max_connections is 1000; it must be a whole number, from 1 to 64"):
        DownloadManagerConfig().settings()
