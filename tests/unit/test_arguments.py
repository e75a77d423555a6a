"""The grammar of `%gguf`, without IPython."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.hours import DailyHours
from gglib_nb.notebook import arguments, commands
from gglib_nb.notebook.arguments import parse
from gglib_nb.notebook.grammar import GrammarError

NIGHT = DailyHours.parse("22-7")


def mistake(line):
    with pytest.raises(GrammarError) as caught:
        parse(line)
    return str(caught.value)


READ = [
    ("", commands.ShowPanel()),
    ("panel", commands.ShowPanel()),
    ("status", commands.Status()),
    ("queue a/b", commands.Queue("a/b", None, False, (), True, True)),
    ("queue a/b:Q4_K_M --force", commands.Queue("a/b:Q4_K_M", None, True, (), True, True)),
    ("queue --with mmproj a/b", commands.Queue("a/b", None, False, ("mmproj",), True, True)),
    ("queue a/b --with mmproj --with mmproj", commands.Queue("a/b", None, False, ("mmproj",), True, True)),
    ("queue a/b --revision v1 --no-db --no-start", commands.Queue("a/b", "v1", False, (), False, False)),
    ("queue 3", commands.Queue("3", None, False, (), True, True)),
    ("queue 'a/b:my file.gguf'", commands.Queue("a/b:my file.gguf", None, False, (), True, True)),
    ("plan a/b", commands.Plan("a/b", None, None)),
    ("plan a/b:Q8_0 --context 8k", commands.Plan("a/b:Q8_0", None, 8192)),
    ("plan a/b --context 10000", commands.Plan("a/b", None, 10000)),
    ("search small coder", commands.Search("small coder", None, "downloads", 20)),
    ("search q --max-size 1.5B --sort likes --limit 5", commands.Search("q", 1_500_000_000, "likes", 5)),
    ("cancel a/b", commands.Cancel("a/b", discard=False)),
    ("cancel #2 --discard", commands.Cancel("#2", discard=True)),
    ("cancel --all", commands.CancelAll()),
    ("partials", commands.Partials(None, discard=False)),
    ("partials llama", commands.Partials("llama", discard=False)),
    ("partials --discard llama", commands.Partials("llama", discard=True)),
    ("partials --discard --all", commands.Partials(None, discard=True)),
    ("remove 2", commands.Remove("2")),
    ("move a/b 3", commands.Move("a/b", 3, 0)),
    ("move a/b #3", commands.Move("a/b", 3, 0)),
    ("move a/b top", commands.Move("a/b", 1, 0)),
    ("move a/b up", commands.Move("a/b", None, -1)),
    ("move a/b down", commands.Move("a/b", None, 1)),
    ("pause a/b", commands.Pause("a/b")),
    ("resume a/b", commands.Resume("a/b")),
    ("retry a/b", commands.Retry("a/b")),
    ("retry --all", commands.Retry(None)),
    ("clear-failed", commands.ClearFailed(None)),
    ("clear-failed llama", commands.ClearFailed("llama")),
    ("limit", commands.Limit(None)),
    ("limit 25", commands.Limit(25)),
    ("bandwidth", commands.Bandwidth(None, asks=True)),
    ("bandwidth off", commands.Bandwidth(None, asks=False)),
    ("bandwidth 5", commands.Bandwidth(5_000_000, asks=False)),
    ("bandwidth 0.5", commands.Bandwidth(500_000, asks=False)),
    ("-h", commands.Help(None)),
    ("queue --help", commands.Help("queue")),
    ("move a/b -h", commands.Help("move")),
    ("bandwidth --hours 22-7", commands.Bandwidth(None, asks=True, hours=NIGHT, keeps_hours=False)),
    ("bandwidth --hours off", commands.Bandwidth(None, asks=True, hours=None, keeps_hours=False)),
    ("bandwidth 5 --hours 22:00-7:00", commands.Bandwidth(5_000_000, asks=False, hours=NIGHT, keeps_hours=False)),
    ("config", commands.Config(None, None, saves=False, resets=False)),
    ("config max_concurrent", commands.Config("max_concurrent", None, saves=False, resets=False)),
    ("config models_directory '/my models' --save", commands.Config("models_directory", "/my models", True, False)),
    ("config --save max_concurrent 2", commands.Config("max_concurrent", "2", saves=True, resets=False)),
    ("bandwidth --hours 22-7 5", commands.Bandwidth(5_000_000, asks=False, hours=NIGHT, keeps_hours=False)),
    ("config bandwidth 5 MB", commands.Config("bandwidth", "5 MB", saves=False, resets=False)),
    ("config max_concurrent --reset", commands.Config("max_concurrent", None, saves=False, resets=True)),
    ("bandwidth 5MB", commands.Bandwidth(5_000_000, asks=False)),
    ("bandwidth 1.5 MB/s", commands.Bandwidth(1_500_000, asks=False)),
    ("wait", commands.Wait(None)),
    ("wait a/b", commands.Wait("a/b")),
    ("models", commands.Models("", "newest", "")),
    ("models llama 8b --sort size --only update", commands.Models("llama 8b", "size", "update")),
    ("path a/b --for ollama", commands.ModelPath("a/b", "ollama")),
    ("forget a/b", commands.Forget("a/b")),
    ("delete a/b", commands.Delete("a/b", False)),
    ("delete a/b --yes", commands.Delete("a/b", True)),
    ("path a/b:Q8_0", commands.ModelPath("a/b:Q8_0", None)),
    ("help", commands.Help(None)),
    ("help queue", commands.Help("queue")),
]


@pytest.mark.parametrize(("line", "command"), READ)
def test_a_line_is_read(line, command):
    assert parse(line) == command


MISTAKES = [
    ("queu a/b", "'queu' is not a verb. Did you mean %gguf queue?"),
    ("zzz", "'zzz' is not a verb. %gguf queue owner/repo downloads a model; %gguf help lists all verbs."),
    ("owner/repo", "'owner/repo' is not a verb. To download it, write: %gguf queue owner/repo"),
    ("queue 'a/b", "A quotation mark is not closed."),
    ("clear-failed a b", "Unrecognized arguments: b. Write: %gguf clear-failed [ID]"),
    ("pause", "Name one download, or write --all. Write: %gguf pause ID | pause --all"),
    ("limit many", "Argument N: 'many' is not a whole number from 1 on. Write: %gguf limit [N]"),
    ("cancel", "Name one download, or write --all. Write: %gguf cancel ID [--discard] | cancel --all"),
    (
        "move a/b sideways",
        "'sideways' is not a whole number from 1 on. Write: %gguf move ID POSITION|top|up|down|last",
    ),
    (
        "bandwidth fast",
        "'fast' is not an amount. Write a number with its unit, such as 5MB or 1.5GB. Write: %gguf bandwidth [RATE|off] [--hours HOURS|off]",
    ),
    ("ls", "'ls' is not a verb. Write: %gguf status for the queue, or %gguf models for what is here"),
    ("stop a/b", "'stop' is not a verb. Write: %gguf cancel ID, or %gguf pause ID to go on later"),
    ("help quue", "'quue' is not a verb. Did you mean %gguf queue? Write: %gguf help [VERB]"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES)
def test_a_mistake_is_one_line_that_says_how_to_write_it(line, message):
    assert mistake(line) == message


@pytest.mark.parametrize(
    "line",
    [
        "queue",
        "queue a/b c/d",
        "queue a/b --with nothing",
        "queue a/b --revision",
        "queue a/b --forc",
        "cancel --all a/b",
        "cancel --all --discard",
        "retry",
        "retry --all a/b",
        "move a/b",
        "move a/b 0",
        "move a/b -1",
        "limit 0",
        "limit -5",
        "bandwidth 0",
        "bandwidth --hours 7-7",
        "config --save",
        "config max_concurrent --save",
        "config --reset",
        "config max_concurrent 2 --reset",
        "search",
        "search x --sort size",
        "search x --max-size 8GB",
        "plan a/b --context none",
        "status now",
        "path",
    ],
)
def test_a_line_that_cannot_be_meant_is_refused_with_its_usage(line):
    said = mistake(line)

    assert "\n" not in said
    assert f"%gguf {line.split()[0]}" in said


@given(st.sampled_from(["", *arguments.VERBS]), st.text())
def test_any_line_is_read_or_refused_in_one_line(verb, rest):
    said = ""
    try:
        parse(f"{verb} {rest}")
    except GrammarError as error:
        said = str(error)

    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("5MB", 5_000_000), ("5m", 5_000_000), ("2 GiB", 2 * 1024**3), ("0.5Ki", 512), ("700", 700), ("1TB/s", 10**12)],
)
def test_an_amount_is_read_in_decimal_and_binary_units(text, size_bytes):
    assert arguments.parse_amount(text) == size_bytes


@pytest.mark.parametrize("verb", arguments.VERBS)
def test_the_usage_of_a_verb_names_every_option_it_takes(verb):
    parser = arguments._Parser(add_help=False)
    arguments.VERBS[verb].declare(parser)

    assert set(arguments.options_of(verb)) == {text for action in parser._actions for text in action.option_strings}


@pytest.mark.parametrize("verb", arguments.VERBS)
def test_help_explains_every_verb(verb):
    assert f"  {verb} " in arguments.help_text(None)
    assert arguments.help_text(verb).startswith(f"%gguf {verb}")
