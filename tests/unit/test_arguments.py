"""The grammar of `%gguf`, without IPython."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gglib_nb.domain.units import DailyHours
from gglib_nb.notebook.verb import VERBS, GrammarError, help_of_all, split_words
from gglib_nb.notebook.verbs import parse

NIGHT = DailyHours.parse("22-7")


def mistake(line):
    with pytest.raises(GrammarError) as caught:
        parse(line)
    return str(caught.value)


READ = [
    ("", "panel", {}),
    ("# nothing but a comment", "panel", {}),
    ("panel", "panel", {}),
    ("panel --side", "panel", {"side": True}),
    ("status", "status", {}),
    ("status # now", "status", {}),
    ("queue a/b", "queue", {"reference": "a/b"}),
    ("queue a/b  # don't --force", "queue", {"reference": "a/b"}),
    ("queue a/b:Q4_K_M --force", "queue", {"reference": "a/b:Q4_K_M", "force": True}),
    ("queue --with mmproj a/b", "queue", {"reference": "a/b", "with_": ("mmproj",)}),
    ("queue a/b --with mmproj --with=mmproj", "queue", {"reference": "a/b", "with_": ("mmproj",)}),
    (
        "queue a/b --revision v1 --no-db --no-start",
        "queue",
        {"reference": "a/b", "revision": "v1", "no_db": True, "no_start": True},
    ),
    ("queue 3", "queue", {"reference": "3"}),
    ("queue #3 # the third", "queue", {"reference": "#3"}),
    ("queue 'a/b:my file.gguf'", "queue", {"reference": "a/b:my file.gguf"}),
    ("queue 'a/b:my #file.gguf'", "queue", {"reference": "a/b:my #file.gguf"}),
    ("queue a/b:c#d.gguf", "queue", {"reference": "a/b:c#d.gguf"}),
    ("queue a/b;", "queue", {"reference": "a/b"}),
    ("queue a/b --then 'one; two;'; # both", "queue", {"reference": "a/b", "then": "one; two;"}),
    (
        "queue “a/b:my file.gguf” —force –revision v1",  # noqa: RUF001
        "queue",
        {"reference": "a/b:my file.gguf", "force": True, "revision": "v1"},
    ),
    ("queue a/b --then=“say ’hi’”", "queue", {"reference": "a/b", "then": "say ’hi’"}),  # noqa: RUF001
    ("queue\u00a0a/Qwen2.5\u20117B\u200b", "queue", {"reference": "a/Qwen2.5-7B"}),
    ("cancel all", "cancel", {"_all": True}),
    ("prune --keep 100", "prune", {"keep": 100 * 10**9}),
    ("prune --keep 100 GB --dry-run", "prune", {"keep": 100 * 10**9, "dry_run": True}),
    ("prune --keep=1.5 GiB --unused 30 d", "prune", {"keep": 3 * 2**29, "unused": 30 * 86_400}),
    ("search --max-size 8 B llama", "search", {"max_size": 8 * 10**9, "words": "llama"}),
    ("search --max-size 8B b", "search", {"max_size": 8 * 10**9, "words": "b"}),
    ("search --limit 5 k", "search", {"limit": 5, "words": "k"}),
    ("partials --discard all", "partials", {"discard": True, "all_": True}),
    ("queue '“a”/b'", "queue", {"reference": "“a”/b"}),
    ("queue a/b --then=--version", "queue", {"reference": "a/b", "then": "--version"}),
    ("plan a/b", "plan", {"reference": "a/b"}),
    ("plan a/b:Q8_0 --context 8k", "plan", {"reference": "a/b:Q8_0", "context": 8000}),
    ("plan a/b --context 8Ki", "plan", {"reference": "a/b", "context": 8192}),
    ("limit 12345678901234567890", "limit", {"n": 12345678901234567890}),
    ("plan a/b --context 10000", "plan", {"reference": "a/b", "context": 10000}),
    ("export gemma phi gemma", "export", {"words": ("gemma", "phi", "gemma")}),
    ("search small coder", "search", {"words": "small coder"}),
    (
        "search q --max-size 1.5B --sort likes --limit 5",
        "search",
        {"words": "q", "max_size": 1_500_000_000, "sort": "likes", "limit": 5},
    ),
    ("search llama --limit 5 vision", "search", {"words": "llama vision", "limit": 5}),
    ("search it’s - llama", "search", {"words": "it’s - llama"}),  # noqa: RUF001
    ("search --limit 1k llama", "search", {"words": "llama", "limit": 1000}),
    ("cancel a/b", "cancel", {"reference": "a/b"}),
    ("cancel #2 --discard", "cancel", {"reference": "#2", "discard": True}),
    ("cancel --all", "cancel", {"_all": True}),
    ("partials", "partials", {}),
    ("partials llama", "partials", {"text": "llama"}),
    ("partials --discard llama", "partials", {"text": "llama", "discard": True}),
    ("partials --discard --all", "partials", {"discard": True, "all_": True}),
    ("remove 2", "remove", {"reference": "2"}),
    ("move a/b 3", "move", {"reference": "a/b", "position": 3}),
    ("move a/b #3", "move", {"reference": "a/b", "position": 3}),
    ("move a/b top", "move", {"reference": "a/b", "position": "top"}),
    ("move a/b UP", "move", {"reference": "a/b", "position": "up"}),
    ("pause a/b", "pause", {"reference": "a/b"}),
    ("resume --all", "resume", {"_all": True}),
    ("retry a/b", "retry", {"reference": "a/b"}),
    ("retry --all", "retry", {"_all": True}),
    ("clear-failed", "clear-failed", {}),
    ("clear-failed llama", "clear-failed", {"reference": "llama"}),
    ("limit", "limit", {}),
    ("limit 25", "limit", {"n": 25}),
    ("bandwidth", "bandwidth", {}),
    ("bandwidth off", "bandwidth", {"rate": 0}),
    ("bandwidth 5", "bandwidth", {"rate": 5_000_000}),
    ("bandwidth 0.5", "bandwidth", {"rate": 500_000}),
    ("bandwidth 5MB", "bandwidth", {"rate": 5_000_000}),
    ("bandwidth 1.5 MB/s", "bandwidth", {"rate": 1_500_000}),
    ("bandwidth 100 Mbit/s", "bandwidth", {"rate": 12_500_000}),
    ("bandwidth 100Mbps", "bandwidth", {"rate": 12_500_000}),
    ("bandwidth 100MBps", "bandwidth", {"rate": 100_000_000}),
    ("bandwidth --hours 22-7", "bandwidth", {"hours": NIGHT}),
    ("bandwidth --hours off", "bandwidth", {"hours": "off"}),
    ("bandwidth --hours 22-7 5", "bandwidth", {"rate": 5_000_000, "hours": NIGHT}),
    ("config", "config", {}),
    ("config max_concurrent", "config", {"words": "max_concurrent"}),
    ("config models_directory '/my models' --save", "config", {"words": "models_directory /my models", "save": True}),
    ("config --save max_concurrent 2", "config", {"words": "max_concurrent 2", "save": True}),
    ("config bandwidth 5 MB", "config", {"words": "bandwidth 5 MB"}),
    ("config max_concurrent --reset", "config", {"words": "max_concurrent", "reset": True}),
    ("wait", "wait", {}),
    ("wait a/b", "wait", {"reference": "a/b"}),
    ("models", "models", {}),
    ("models llama 8b --sort size --only update", "models", {"text": "llama 8b", "sort": "size", "only": "update"}),
    ("path a/b --for ollama", "path", {"reference": "a/b", "for_": "ollama"}),
    ("forget a/b", "forget", {"reference": "a/b"}),
    ("delete a/b --yes", "delete", {"reference": "a/b", "yes": True}),
    ("help", "help", {}),
    ("help queue", "help", {"name": "queue"}),
    ("-h", "help", {}),
    ("queue --help", "help", {"name": "queue"}),
    ("move a/b -h", "help", {"name": "move"}),
]


@pytest.mark.parametrize(("line", "verb", "arguments"), READ)
def test_a_line_is_parsed(line, verb, arguments):
    call = parse(line)

    assert (call.verb.name, call.arguments) == (verb, arguments)


MISTAKES = [
    ("queu a/b", "Did you mean %gguf queue?"),
    ("zzz", "%gguf help"),
    ("owner/repo", "%gguf queue owner/repo"),
    ("clear-failed a b", "'b'"),
    ("queue a/b Q4_K_M", "'Q4_K_M' is unexpected here. Did you mean a/b:Q4_K_M? Usage: "),
    ("plan a/b --kv f16 Q4_K_M", "Did you mean a/b:Q4_K_M?"),
    ("queue a/b | head", "'| head' is unexpected here. Usage: "),
    ("queue a/b:Q8_0 Q4_K_M", "'Q4_K_M' is unexpected here. Usage: "),
    ("bandwidth 0", "'0' is not an amount above zero."),
    ("pause", "Usage: %gguf pause ID | %gguf pause --all"),
    ("limit many", "'many'"),
    ("cancel", "Usage: %gguf cancel ID [--discard] | %gguf cancel --all"),
    ("ollama run hf.co/a/b:Q8_0", "To download it: %gguf queue ollama run hf.co/a/b:Q8_0"),
    ("'my a/b'", "To download it: %gguf queue 'my a/b'"),
    ("info a/b", "Write: %gguf inspect ID"),
    ("version", "%gguf help lists all verbs."),
    ("move a/b sideways", "'sideways' is not a position. Write top, up, down, last or a number from 1."),
    ("bandwidth fast", "5MB"),
    ("queue a/b --forc", "Did you mean --force?"),
    ("queue a/b --with nothing", "mmproj"),
    ("queue a/b --revision v1 --revision v2", "--revision is given twice"),
    ("ls", "%gguf models"),
    ("stop a/b", "%gguf cancel ID"),
    ("delete a/b --yes=no", "--yes takes no value"),
    ("queue a/b --to --force", "--to needs a value: --to FOLDER"),
    ("plan a/b --kv", "--kv needs a value: f16, q8_0, q4_0."),
    ("queue a/b \\", "after a backslash"),
    ("queue 'a/b", "inside a quotation"),
    ("path", "| %gguf path --preset FILE"),
    ("queue {repo} --then 'x'", "IPython could not replace '{repo}'"),
    ("plan $repo", "IPython could not replace '$repo'"),
]


@pytest.mark.parametrize(("line", "named"), MISTAKES)
def test_a_mistake_is_reported_in_one_line_with_the_correct_form(line, named):
    said = mistake(line)

    assert named in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "line",
    [
        "queue",
        "queue a/b c/d",
        "queue a/b --with nothing",
        "queue a/b --revision",
        "queue a/b --forc",
        "cancel --all a/b",
        "retry",
        "retry --all a/b",
        "move a/b",
        "move a/b 0",
        "move a/b -1",
        "limit 0",
        "limit -5",
        "bandwidth 0",
        "bandwidth --hours 7-7",
        "search",
        "search x --sort size",
        "search x --max-size 8GB",
        "plan a/b --context none",
        "status now",
        "path",
    ],
)
def test_an_invalid_line_is_refused_with_its_usage(line):
    said = mistake(line)

    assert "\n" not in said
    assert f"%gguf {line.split()[0]}" in said


@given(st.sampled_from(["", *VERBS]), st.text())
def test_any_line_is_parsed_or_refused_in_one_line(verb, rest):
    said = ""
    try:
        parse(f"{verb} {rest}")
    except GrammarError as error:
        said = str(error)

    assert len(said.splitlines()) <= 1


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_usage_and_help_name_every_option_of_a_verb(verb):
    assert all(option in verb.usage for option in verb.options)
    assert all(f"  {option}" in verb.help for option in verb.options)


def test_each_form_of_a_verb_can_be_typed_as_its_usage_shows_it():
    assert VERBS["retry"].usage == "%gguf retry ID | %gguf retry --all"


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_the_help_lists_every_verb(verb):
    assert f"  {verb.name} " in help_of_all()
    assert verb.help.startswith(f"%gguf {verb.name}")


@pytest.mark.parametrize("verb", ["queue", "plan"])
@pytest.mark.parametrize("command", ["llama-server -hf owner/name:Q4_K_M -c 0", "ollama run hf.co/owner/name:Q4_K_M"])
def test_a_pasted_command_is_parsed_completely(verb, command):
    assert parse(f"{verb} {command}").arguments == {"reference": command}


def test_an_option_named_as_another_verb_names_that_verb():
    assert "%gguf wait." in mistake("queue owner/name --wait")
    assert "--with?" in mistake("queue owner/name --wth")


def test_options_of_the_verb_may_follow_a_pasted_command():
    command = "hf download owner/name --revision main --include *.gguf"

    assert parse(f"queue {command} --no-start --to=/models").arguments == {
        "reference": command,
        "no_start": True,
        "to": "/models",
    }


def test_on_windows_a_backslash_is_part_of_a_path():
    assert split_words(r"import D:\my\models '\\host\a b'", has_escapes=False) == [
        "import",
        r"D:\my\models",
        r"\\host\a b",
    ]


def test_the_command_suggested_for_an_id_can_be_pasted():
    command = mistake("'owner/name:my model-Q8_0'").partition("%gguf ")[2]

    assert parse(command).arguments["reference"] == "owner/name:my model-Q8_0"
