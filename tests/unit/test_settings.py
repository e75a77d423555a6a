"""Settings: one table; the sources of a value in order of rank; invalid values; and that the token is never shown."""

import errno
import json
import os
import pwd
import re
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gglib_nb import DownloadManagerConfig, settings
from gglib_nb.domain.units import DailyHours, parse_bytes, parse_seconds
from gglib_nb.errors import InvalidConfigError, RequestError
from gglib_nb.manager.manager import SyncOperations
from gglib_nb.notebook.actions import LIVE
from gglib_nb.notebook.magic import Gglib
from gglib_nb.settings import SET_HERE, SETTINGS, asked_for, origins_of, save_setting, saved_settings, use_profile
from gglib_nb.system import only_writer

ROWS = [
    ("models_directory", "GGLIB_MODELS_DIR", "/env/models", Path("/env/models"), Path("/own/models")),
    ("model_stores", "GGLIB_MODEL_STORES", "/env/a:/env/b", (Path("/env/a"), Path("/env/b")), (Path("/own/a"),)),
    (
        "mirrors",
        "GGLIB_MIRRORS",
        "https://env.example https://b.example/",
        ("https://env.example", "https://b.example"),
        ("https://own.example",),
    ),
    ("storage_limit_bytes", "GGLIB_STORAGE_LIMIT", "100GB", 100 * 10**9, 50 * 10**9),
    ("state_directory", "GGLIB_STATE_DIR", "/env/state", Path("/env/state"), Path("/own/state")),
    ("endpoint", "HF_ENDPOINT", "http://env:1/", "http://env:1", "http://own:2"),
    ("ms_endpoint", "GGLIB_MODELSCOPE_ENDPOINT", "http://env:1/", "http://env:1", "http://own:2"),
    ("hub_cache", "HF_HUB_CACHE", "/env/cache", Path("/env/cache"), Path("/own/cache")),
    ("hub_cache", "HUGGINGFACE_HUB_CACHE", "/env/old", Path("/env/old"), Path("/own/cache")),
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
    ("is_offline", "TRANSFORMERS_OFFLINE", "yes", True, False),
]
NAMES = [f"{name} by {variable}" for name, variable, *_ in ROWS]
each_variable = pytest.mark.parametrize(("name", "variable", "text", "value", "argument"), ROWS, ids=NAMES)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder of a user without settings."""
    for variable in {*(row[1] for row in ROWS), "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"}:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GGLIB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    SET_HERE.clear()
    use_profile({})


@pytest.fixture
def file(home: Path) -> Path:
    """The file of saved settings, which does not exist yet."""
    return home / "config" / "settings.json"


def test_a_variable_in_a_folder_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", str(home / "scratch"))
    monkeypatch.setenv("HF_HUB_CACHE", "${SCRATCH}/hub")

    config = DownloadManagerConfig(models_directory=Path("$SCRATCH/models/$unset"))

    assert config.models_directory == home / "scratch" / "models" / "$unset"
    assert config.hub_cache == home / "scratch" / "hub"


# The table


def test_each_setting_and_variable_has_a_table_row_a_trait_and_a_field() -> None:
    stated = {(name, one.partition("/")[0]) for name, setting in SETTINGS.items() for one in setting.variables}

    assert {(name, variable) for name, variable, *_ in ROWS} == stated
    assert {field.name for field in fields(DownloadManagerConfig)} == {*SETTINGS, "hf_token"}
    assert set(Gglib.class_own_traits(config=True)) == set(SETTINGS)


def test_every_setting_that_a_running_manager_can_change_has_an_operation() -> None:
    assert all(name in SETTINGS and hasattr(SyncOperations, operation) for name, (operation, _) in LIVE.items())


def test_without_arguments_and_variables_the_defaults_apply(home: Path) -> None:
    config = DownloadManagerConfig()

    assert (config.models_directory, DownloadManagerConfig.of_kernel().models_directory) == (
        home,
        home / ".local" / "share" / "gglib_nb" / "models",
    )
    assert (config.max_concurrent, config.max_queue_size, config.max_connections) == (1, 10, 16)
    assert (config.endpoint, config.hf_token, config.bandwidth_limit_bytes_per_second) == (
        "https://huggingface.co",
        None,
        None,
    )
    assert config.hub_cache == home / ".cache" / "huggingface" / "hub"
    assert config.database_path.parent == config.state_directory == home / ".local" / "state" / "gglib_nb"
    assert config.is_offline is False


def test_an_argument_of_none_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGLIB_BANDWIDTH_BYTES_PER_SECOND", "5000000")

    assert DownloadManagerConfig(bandwidth_limit_bytes_per_second=None).bandwidth_limit_bytes_per_second is None
    assert DownloadManagerConfig(endpoint=None).endpoint == "https://huggingface.co"  # type: ignore[arg-type]


# Where a value comes from


@each_variable
def test_a_manager_made_by_hand_reads_the_variable(monkeypatch, name, variable, text, value, argument) -> None:
    monkeypatch.setenv(variable, text)

    assert getattr(DownloadManagerConfig(), name) == value


@each_variable
def test_the_kernels_own_manager_reads_the_variable(monkeypatch, name, variable, text, value, argument) -> None:
    monkeypatch.setenv(variable, text)

    assert getattr(DownloadManagerConfig.of_kernel(), name) == value


@each_variable
def test_an_argument_outranks_the_variable(monkeypatch, name, variable, text, value, argument) -> None:
    monkeypatch.setenv(variable, text)

    assert getattr(DownloadManagerConfig(**{name: argument}), name) == argument


@each_variable
def test_the_effective_variable_is_named(monkeypatch, name, variable, text, value, argument) -> None:
    monkeypatch.setenv(variable, text)

    assert asked_for(name) == (value, ("environment", variable))


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = DownloadManagerConfig()
    for _name, variable, *_ in ROWS:
        monkeypatch.setenv(variable, " ")

    assert DownloadManagerConfig() == expected


@pytest.mark.parametrize(("value", "expected"), [("on", True), ("TRUE", True), ("0", False), ("maybe", False)])
def test_offline_mode_is_parsed_like_huggingface_hub_does(monkeypatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)

    assert DownloadManagerConfig().is_offline is expected


def source(name: str) -> str:
    return origins_of(DownloadManagerConfig.of_kernel())[name].source


def test_each_source_outranks_the_one_below(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [(DownloadManagerConfig.of_kernel().max_concurrent, source("max_concurrent"))]
    for step in (
        lambda: monkeypatch.setenv("GGLIB_MAX_CONCURRENT", "2"),
        lambda: use_profile({"max_concurrent": 3}),
        lambda: save_setting("max_concurrent", 4),
        lambda: SET_HERE.update(max_concurrent=5),
    ):
        step()
        seen.append((DownloadManagerConfig.of_kernel().max_concurrent, source("max_concurrent")))

    assert seen == [(1, "default"), (2, "environment"), (3, "profile"), (4, "saved"), (5, "set here")]


def test_a_setting_that_is_saved_while_another_program_saves_one_keeps_both() -> None:
    path = save_setting("max_concurrent", 4)
    saving = threading.Thread(target=save_setting, args=("max_queue_size", 30))
    with only_writer(path.parent):
        kept = json.loads(path.read_text())
        saving.start()
        saving.join(0.2)  # without a lock it has ended now, and its setting is overwritten
        path.write_text(json.dumps(kept | {"is_offline": True}))
    saving.join(60)

    assert saved_settings() == {"max_concurrent": 4, "max_queue_size": 30, "is_offline": True}


def test_a_manager_made_by_hand_uses_saved_settings_and_an_argument_outranks_them() -> None:
    save_setting("max_concurrent", 4)

    assert DownloadManagerConfig().max_concurrent == 4
    argued = DownloadManagerConfig(max_concurrent=6)
    assert argued.max_concurrent == 6
    assert origins_of(argued)["max_concurrent"].source == "argument"


def test_the_saved_settings_of_a_manager_are_those_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another kernel may save some in the meantime."""
    save_setting("max_concurrent", 4)
    save_setting("max_queue_size", 40)
    read = settings._read_saved

    def read_and_save(path: Path) -> dict[str, Any]:
        found = read(path)
        path.write_text(json.dumps({"max_concurrent": 5, "max_queue_size": 50}))
        return found

    monkeypatch.setattr(settings, "_read_saved", read_and_save)
    config = DownloadManagerConfig()

    assert (config.max_concurrent, config.max_queue_size) == (4, 40)


def test_the_working_directory_is_the_default_of_a_manager_made_by_hand() -> None:
    assert origins_of(DownloadManagerConfig())["models_directory"].source == "default"


# The file


def test_saved_settings_are_read_back_and_human_readable(file: Path) -> None:
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


def test_lists_are_text_in_a_profile_and_in_the_file(home: Path) -> None:
    mirrors, stores = ("https://a.example", "https://b.example"), (home / "a", home / "b")
    save_setting("mirrors", mirrors)
    use_profile({"model_stores": f"{stores[0]}{os.pathsep}{stores[1]}"})

    config = DownloadManagerConfig()

    assert (config.mirrors, config.model_stores) == (mirrors, stores)


def test_saving_one_setting_keeps_the_others_and_unknown_ones(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"colour": "red", "max_concurrent": 2}))

    save_setting("max_queue_size", 30)
    save_setting("max_concurrent")

    assert json.loads(file.read_text()) == {"colour": "red", "max_queue_size": 30}
    assert saved_settings() == {"max_queue_size": 30}


@pytest.mark.parametrize("text", ["{", "[]", '{"max_concurrent": 0}', '{"download_hours": 7}', "\x00"])
def test_an_unusable_settings_file_is_refused_by_name_and_not_changed(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)

    with pytest.raises(InvalidConfigError, match=r"settings\.json"):
        DownloadManagerConfig.of_kernel()
    assert file.read_text() == text


def test_a_folder_that_cannot_be_written_is_reported(file: Path) -> None:
    file.parent.write_text("a file where the folder should be")

    with pytest.raises(InvalidConfigError, match=re.escape(str(file))):
        save_setting("max_concurrent", 2)


def test_a_full_disk_leaves_no_half_written_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)

    with pytest.raises(InvalidConfigError, match="No space left"):
        save_setting("max_concurrent", 2)
    assert list(file.parent.iterdir()) == []


# Invalid values


@pytest.mark.parametrize("text", ["two", "-1", "1.5", "²"])
def test_a_variable_that_is_not_a_number_is_refused_by_name(monkeypatch, text: str) -> None:
    monkeypatch.setenv("GGLIB_MAX_CONCURRENT", text)

    with pytest.raises(InvalidConfigError, match="GGLIB_MAX_CONCURRENT"):
        DownloadManagerConfig()


def test_a_variable_out_of_range_is_refused_by_name(monkeypatch) -> None:
    monkeypatch.setenv("GGLIB_MAX_CONNECTIONS", "1000")

    with pytest.raises(InvalidConfigError, match=r"GGLIB_MAX_CONNECTIONS .* from 1 to 64"):
        DownloadManagerConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in ("max_concurrent", "max_queue_size", "max_connections", "bandwidth_limit_bytes_per_second")
        for value in (0, -1, 1.5, True, "3")
    ]
    + [
        ("max_connections", 1000),
        ("models_directory", "a\0b"),
        ("models_directory", 7),
        ("models_directory", "~no-user-of-this-name/models"),
        ("is_offline", "yes"),
        ("engine", 3),
        ("engine", ["tcp://scheduler:8786"]),
        ("download_hours", 7),
    ],
)
def test_an_invalid_value_is_refused_with_the_settings_name(name: str, value: object) -> None:
    with pytest.raises(InvalidConfigError, match=name):
        DownloadManagerConfig(**{name: value})
    with pytest.raises(InvalidConfigError):
        replace(DownloadManagerConfig(), **{name: value})
    with pytest.raises(InvalidConfigError, match=name):
        use_profile({name: "two" if value in ("3", "yes") else value})
    assert asked_for(name) is None


def test_a_profile_may_state_a_value_as_a_user_types_it() -> None:
    use_profile({"max_concurrent": "3", "is_offline": "yes", "storage_limit_bytes": "100GB", "download_hours": "any"})

    config = DownloadManagerConfig()

    assert (config.max_concurrent, config.is_offline, config.storage_limit_bytes) == (3, True, 100 * 10**9)
    assert config.download_hours is None


def test_a_number_of_numpy_is_a_number() -> None:
    config = DownloadManagerConfig(max_concurrent=np.int64(3), is_offline=np.bool_(True))  # type: ignore[arg-type]

    assert (config.max_concurrent, config.is_offline) == (3, True)


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
def test_an_invalid_endpoint_is_refused_without_being_quoted(endpoint: str) -> None:
    with pytest.raises(InvalidConfigError, match="HF_ENDPOINT") as caught:
        DownloadManagerConfig(endpoint=endpoint)

    assert "secret" not in str(caught.value)


class BytesPath:
    """As `os.scandir(b".")` returns them."""

    def __fspath__(self) -> bytes:
        return b"models"


@pytest.mark.parametrize("name", [field.name for field in fields(DownloadManagerConfig) if field.name != "engine"])
@pytest.mark.parametrize(
    "value", [b"https://hub", bytearray(b"hub"), BytesPath(), {}, {"hub"}, object(), 1.5, [["hub"]], [None], [b"hub"]]
)
def test_a_value_of_another_type_is_refused_like_any_invalid_one(name: str, value: object) -> None:
    for given in (value, [value]):
        with pytest.raises(InvalidConfigError):
            DownloadManagerConfig(**{name: given})


# Unusual hosts


def test_an_absolute_models_folder_works_in_a_deleted_working_directory(home: Path, monkeypatch) -> None:
    (home / "gone").mkdir()
    monkeypatch.chdir(home / "gone")
    (home / "gone").rmdir()

    config = DownloadManagerConfig("/abs")  # type: ignore[arg-type]

    assert origins_of(config)["models_directory"].source == "argument"
    with pytest.raises(InvalidConfigError, match="models_directory"):
        DownloadManagerConfig()


def test_without_a_home_folder_the_error_names_the_variable_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_entry(_uid: int) -> pwd.struct_passwd:
        raise KeyError

    for name in ("HOME", "GGLIB_CONFIG_DIR"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)

    with pytest.raises(InvalidConfigError, match="GGLIB_STATE_DIR"):
        DownloadManagerConfig()
    with pytest.raises(InvalidConfigError, match="GGLIB_MODELS_DIR"):
        DownloadManagerConfig.of_kernel()
    with pytest.raises(InvalidConfigError, match="GGLIB_CONFIG_DIR"):
        save_setting("max_concurrent", 2)
    config = DownloadManagerConfig("/models", state_directory="/state")  # type: ignore[arg-type]
    assert (config.hub_cache, origins_of(config)["state_directory"].source) == (
        Path("/.cache/huggingface/hub"),
        "argument",
    )


def test_saved_settings_with_a_byte_order_mark_are_read(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b'\xef\xbb\xbf{"max_concurrent": 2}')

    assert DownloadManagerConfig().max_concurrent == 2


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b'{"max_concurrent": NaN}', b'{"engine": [1]'])
def test_saved_settings_that_are_damaged_are_refused_by_name(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)

    with pytest.raises(InvalidConfigError, match=r"settings\.json"):
        DownloadManagerConfig()


def test_a_setting_that_cannot_be_written_leaves_no_file_behind(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, *_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    save_setting("max_concurrent", 2)
    monkeypatch.setattr(Path, "replace", full)

    with pytest.raises(InvalidConfigError, match="No space left on device"):
        save_setting("max_concurrent", 3)

    assert [one.name for one in file.parent.iterdir()] == [file.name]
    assert saved_settings() == {"max_concurrent": 2}


def test_a_folder_of_settings_that_cannot_be_searched_is_reported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(Path, "mkdir", refused)

    with pytest.raises(InvalidConfigError, match="Permission denied"):
        save_setting("max_concurrent", 3)


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "GB"])
def test_an_amount_or_time_of_many_digits_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse_bytes(text, "MB")
    with pytest.raises(RequestError):
        parse_seconds(text)


def test_a_time_with_a_missing_unit_is_refused() -> None:
    with pytest.raises(RequestError):
        parse_seconds("1h30")


# The token


def test_the_token_is_stripped_and_never_shown() -> None:
    config = DownloadManagerConfig(hf_token=" hf_secret\n")

    assert config.hf_token == "hf_secret"
    assert "hf_secret" not in repr(config)
    assert DownloadManagerConfig(hf_token="  ").hf_token is None
    assert "HF_TOKEN" not in os.environ or os.environ["HF_TOKEN"] not in repr(config)


def test_a_token_invalid_in_a_header_is_refused_without_being_quoted() -> None:
    with pytest.raises(InvalidConfigError, match="Paste it again") as caught:
        DownloadManagerConfig(hf_token="hf_sec\nret")

    assert "sec" not in str(caught.value)


def test_a_setting_is_added_last_so_that_the_positions_of_the_others_stay() -> None:
    names = [field.name for field in fields(DownloadManagerConfig)]

    assert names.index("max_connections") == names.index("mirrors") + 1
    assert names[-1] == "ms_endpoint"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "off"), (90, "1 min 30 s"), (86_400, "24 h 00 min"), (3_601, "3601 s"), (604_800, "604800 s")],
)
def test_a_time_is_shown_so_that_it_reads_back_as_the_same(seconds: int, text: str) -> None:
    assert SETTINGS["activity_interval_s"].show(seconds) == text
    assert SETTINGS["activity_interval_s"].read(text) == seconds
