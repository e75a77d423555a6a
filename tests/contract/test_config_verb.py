"""`%gguf config` with a real manager: what it shows, what changes at once, what applies to later kernels, what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gglib_nb import DownloadManager, DownloadManagerConfig, GglibError, InvalidConfigError, RequestError
from gglib_nb.notebook.session import Screen, Session
from gglib_nb.notebook.verb import GrammarError
from gglib_nb.notebook.verbs import parse
from gglib_nb.settings import SET_HERE, SETTINGS, checked_setting, saved_settings, setting_name
from tests.support.faulty_hub import FaultyHub

Ask = Callable[..., str]


@pytest.fixture(autouse=True)
def nothing_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GGLIB_CONFIG_DIR", str(tmp_path / "config"))
    yield
    SET_HERE.clear()


@pytest.fixture
def kernel(hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DownloadManager]:
    """The kernel's own manager, as created by its first line."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("GGLIB_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("GGLIB_STATE_DIR", str(tmp_path / "state"))
    manager = DownloadManager(DownloadManagerConfig.of_kernel())
    yield manager
    manager.close()


@pytest.fixture
def ask(kernel: DownloadManager) -> Ask:
    def ask(line: str, *, is_running: bool = True) -> str:
        return parse(f"config {line}").run(Session(lambda: kernel, has_manager=lambda: is_running)).text

    return ask


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.split()[:1] == [name])


def test_every_setting_is_shown_with_its_value_and_source(ask: Ask, hub: FaultyHub, tmp_path: Path) -> None:
    ask("max_concurrent 3")
    ask("max_queue_size 30 --save")

    shown = ask("")

    assert {line.split()[0] for line in shown.splitlines()[1:-1]} == {*SETTINGS, "hf_token"}
    assert f"{hub.url}" in row(shown, "endpoint")
    assert "environment: HF_ENDPOINT" in row(shown, "endpoint")
    assert "set here" in row(shown, "max_concurrent")
    assert f"saved: {tmp_path / 'config' / 'settings.json'}" in row(shown, "max_queue_size")
    assert "default" in row(shown, "max_connections")


def test_in_a_terminal_the_table_of_settings_fits_its_width(kernel: DownloadManager, tmp_path: Path) -> None:
    class Terminal(Screen):
        width = 80  # type: ignore[assignment]

    shown = parse("config").run(Session(lambda: kernel, Terminal())).text

    assert all(len(line) <= 80 for line in shown.splitlines()[:-1] if str(tmp_path) not in line)
    assert "Meaning: Downloads that run at once." in shown


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("max_concurrent 3", "max_concurrent", 3),
        ("max_queue_size 30", "max_size", 30),
        ("max_connections 8", "max_connections", 8),
        ("bandwidth 5", "bandwidth_limit_bytes_per_second", 5_000_000),
        ("network_wait_s 2 min", "network_wait_s", 120),
    ],
)
def test_live_settings_change_at_once(ask: Ask, kernel: DownloadManager, line: str, field: str, value: int) -> None:
    said = ask(line)

    assert getattr(kernel.snapshot, field) == value
    assert "in this kernel" in said
    assert "--save" in said
    assert saved_settings() == {}


def test_hours_change_live(ask: Ask, kernel: DownloadManager) -> None:
    ask("download_hours 22-7")
    here = str(kernel.snapshot.download_hours)
    ask("download_hours off")

    assert here == "22:00-07:00"
    assert kernel.snapshot.download_hours is None


def test_a_changed_setting_applies_to_the_next_manager_of_the_kernel(ask: Ask) -> None:
    ask("max_concurrent 3")

    assert DownloadManagerConfig.of_kernel().max_concurrent == 3


def test_a_saved_setting_applies_to_every_later_kernel(ask: Ask, kernel: DownloadManager) -> None:
    ask("max_concurrent 3 --save")
    SET_HERE.clear()

    assert kernel.snapshot.max_concurrent == 3
    assert DownloadManagerConfig.of_kernel().max_concurrent == 3


def test_a_saved_value_that_is_already_in_use_needs_no_restart(ask: Ask) -> None:
    said = {text: ask(f"storage_limit_bytes {text} --save") for text in ("unlimited", "5GB")}

    assert "restart" not in said["unlimited"]
    assert "restart" in said["5GB"]


def test_a_limit_that_is_switched_off_for_good_outranks_the_environment(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGLIB_BANDWIDTH_BYTES_PER_SECOND", "5000000")
    ask("bandwidth off --save")
    SET_HERE.clear()

    assert DownloadManagerConfig.of_kernel().bandwidth_limit_bytes_per_second is None
    assert "unlimited (saved: " in ask("bandwidth")


def test_a_folder_cannot_change_under_a_running_manager_and_the_message_says_what_to_do(
    ask: Ask, tmp_path: Path
) -> None:
    with pytest.raises(InvalidConfigError, match=r"%gguf config models_directory /x --save"):
        ask("models_directory /x")

    said = ask("models_directory /x --save")

    assert str(tmp_path / "models") in said
    assert DownloadManagerConfig.of_kernel().models_directory == Path("/x")


def test_before_the_first_manager_every_setting_can_be_changed(ask: Ask, tmp_path: Path) -> None:
    ask(f"models_directory {tmp_path / 'other models'}", is_running=False)

    assert DownloadManagerConfig.of_kernel().models_directory == tmp_path / "other models"


def test_a_reset_setting_falls_back_to_the_next_source(
    ask: Ask, kernel: DownloadManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("max_concurrent 3 --save")
    monkeypatch.setenv("GGLIB_MAX_CONCURRENT", "2")

    said = ask("max_concurrent --reset")

    assert said == "max_concurrent is 2 again (environment: GGLIB_MAX_CONCURRENT)."
    assert kernel.snapshot.max_concurrent == 2
    assert saved_settings() == {}
    assert "environment: GGLIB_MAX_CONCURRENT" in row(ask(""), "max_concurrent")


def test_one_setting_can_be_shown_alone(ask: Ask) -> None:
    assert ask("max_conn") == "max_connections is 16 (default). Connections of all transfers together."


def test_the_token_can_be_neither_shown_nor_set(ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")

    shown = ask("")
    with pytest.raises(RequestError, match="%gguf login"):
        ask("hf_token hf_secretsecret --save")

    assert "hf_secretsecret" not in shown
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    "line",
    [
        "--save",
        "max_concurrent --save",
        "max_concurrent ''",
        "--reset",
        "max_concurrent 2 --reset",
        "colour red",
        "max 3",
        "max_concurrent many",
        "max_concurrent 0",
        "max_connections 1000",
        "bandwidth fast",
        "download_hours noon",
        "network_wait_s soon",
        "is_offline perhaps",
        "endpoint hub --save",
    ],
)
def test_an_invalid_setting_is_refused_in_one_line_and_changes_nothing(
    ask: Ask, kernel: DownloadManager, line: str
) -> None:
    before = kernel.snapshot

    with pytest.raises((GglibError, GrammarError)) as caught:
        ask(line)

    assert "\n" not in str(caught.value)
    assert (kernel.snapshot, SET_HERE, saved_settings()) == (before, {}, {})


def test_the_suggested_command_can_be_pasted(ask: Ask) -> None:
    with pytest.raises(InvalidConfigError) as refusal:
        ask('models_directory "/it\'s  my disk"')

    ask(str(refusal.value).partition("%gguf config ")[2])

    assert saved_settings() == {"models_directory": Path("/it's  my disk")}


def test_a_setting_that_the_manager_refuses_is_not_saved(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_config: DownloadManagerConfig, *, must_exist: bool) -> None:
        raise InvalidConfigError("Downloads on a Dask cluster need Dask here.")

    monkeypatch.setattr("gglib_nb.manager.operations.engine_for", refuse)
    with pytest.raises(InvalidConfigError, match="need Dask"):
        ask("engine auto --save")

    assert (SET_HERE, saved_settings()) == ({}, {})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("bandwidth", "bandwidth_limit_bytes_per_second"),
        ("models", "models_directory"),
        ("hours", "download_hours"),
        ("MAX-CONCURRENT", "max_concurrent"),
    ],
)
def test_a_unique_part_of_a_name_is_enough(typed: str, meant: str) -> None:
    assert setting_name(typed) == meant


@pytest.mark.parametrize("name", SETTINGS)
def test_a_shown_value_can_be_typed(name: str, kernel: DownloadManager) -> None:
    words, value = SETTINGS[name], getattr(kernel.config, name)

    assert checked_setting(name, words.read(words.show(value))) == value


def test_the_settings_are_shown_beside_a_token_that_cannot_be_used(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abc…def")

    assert "cannot be used" in row(ask(""), "hf_token")


def test_an_invalid_saved_setting_can_be_reset(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "config" / "settings.json"
    file.parent.mkdir()
    file.write_text('{"max_concurrent": 0, "max_queue_size": 30}')

    with pytest.raises(InvalidConfigError) as refusal:
        saved_settings()
    _, _, pasted = str(refusal.value).rpartition("%gguf config ")
    ask(pasted)

    assert saved_settings() == {"max_queue_size": 30}


@pytest.mark.parametrize("name", ["models_directory", "state_directory", "model_stores"])
def test_a_path_that_exists_and_is_not_a_folder_is_refused(ask: Ask, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InvalidConfigError, match="is not a folder"):
        ask(f"{name} {tmp_path / 'file'} --save")

    assert saved_settings() == {}
