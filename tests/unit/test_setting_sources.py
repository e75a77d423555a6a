"""Where a setting comes from, in the order of rank: argument, set here, saved, profile, environment, default."""

import json
from pathlib import Path

import pytest

from gglib_nb import DownloadManagerConfig
from gglib_nb.domain.hours import DailyHours
from gglib_nb.errors import InvalidConfigError
from gglib_nb.manager import setting_sources
from gglib_nb.manager.saved_settings import save_setting, saved_settings
from gglib_nb.manager.setting_sources import SET_HERE, Source, asked_for, origins_of, settings_of_kernel, use_profile
from gglib_nb.settings import ENVIRONMENT_VARIABLES


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file of saved settings, of a user of whom nothing is known yet."""
    for variables in ENVIRONMENT_VARIABLES.values():
        for variable in variables:
            monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GGLIB_CONFIG_DIR", str(tmp_path / "config"))
    yield tmp_path / "config" / "settings.json"
    SET_HERE.clear()
    use_profile({})


def source(name: str) -> str:
    return origins_of(settings_of_kernel())[name].source


def test_each_rank_outdoes_the_one_below(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [(settings_of_kernel().max_concurrent, source("max_concurrent"))]
    for step in (
        lambda: monkeypatch.setenv("GGLIB_MAX_CONCURRENT", "2"),
        lambda: use_profile({"max_concurrent": 3}),
        lambda: save_setting("max_concurrent", 4),
        lambda: SET_HERE.update(max_concurrent=5),
    ):
        step()
        seen.append((settings_of_kernel().max_concurrent, source("max_concurrent")))

    assert seen == [(1, "default"), (2, "environment"), (3, "profile"), (4, "saved"), (5, "set here")]


def test_a_manager_made_by_hand_obeys_what_is_saved_and_an_argument_outdoes_it() -> None:
    save_setting("max_concurrent", 4)

    assert DownloadManagerConfig().settings().max_concurrent == 4
    argued = DownloadManagerConfig(max_concurrent=6).settings()
    assert argued.max_concurrent == 6
    assert origins_of(argued)["max_concurrent"].source is Source.ARGUMENT


def test_the_folder_of_a_manager_made_by_hand_is_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert origins_of(DownloadManagerConfig().settings())["models_directory"].source is Source.DEFAULT


def test_the_variable_that_counts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "/hf")

    asked = asked_for("hub_cache")

    assert asked is not None
    assert (asked[0], asked[1].where) == (Path("/hf/hub"), "HF_HOME")


def test_what_is_saved_comes_back_as_it_was_and_can_be_read_by_a_person(file: Path) -> None:
    save_setting("models_directory", Path("/big/models"))
    save_setting("download_hours", DailyHours.parse("22-7"))
    save_setting("bandwidth_limit_bytes_per_second", 5_000_000)
    save_setting("is_offline", True)

    assert saved_settings() == {
        "models_directory": Path("/big/models"),
        "download_hours": DailyHours.parse("22:00-07:00"),
        "bandwidth_limit_bytes_per_second": 5_000_000,
        "is_offline": True,
    }
    assert '"download_hours": "22:00-07:00"' in file.read_text()


def test_saving_one_leaves_the_others_and_what_another_version_saved(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"colour": "red", "max_concurrent": 2}))

    save_setting("max_queue_size", 30)
    save_setting("max_concurrent", None)

    assert json.loads(file.read_text()) == {"colour": "red", "max_queue_size": 30}
    assert saved_settings() == {"max_queue_size": 30}


@pytest.mark.parametrize("text", ["{", "[]", '{"max_concurrent": 0}', '{"download_hours": 7}', "\x00"])
def test_a_file_that_cannot_be_used_is_refused_by_its_name_and_left_as_it_is(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)

    with pytest.raises(InvalidConfigError, match=r"settings\.json"):
        settings_of_kernel()
    assert file.read_text() == text


def test_a_folder_that_cannot_be_written_is_said(file: Path) -> None:
    file.parent.write_text("a file where the folder should be")

    with pytest.raises(InvalidConfigError, match="was not saved"):
        save_setting("max_concurrent", 2)


def test_a_value_of_the_profile_that_cannot_work_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="max_connections"):
        use_profile({"max_connections": 1000})
    assert setting_sources.asked_for("max_connections") is None
