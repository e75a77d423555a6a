"""The verbs about models that are here: how each is written. What they do stands in `model_verbs`."""

import argparse
from types import SimpleNamespace
from typing import Final, get_args

from gglib_nb.domain.loading import PROGRAMS
from gglib_nb.domain.model_summary import ModelOrder, ModelState
from gglib_nb.notebook.commands import (
    Command,
    Delete,
    Forget,
    Import,
    ModelPath,
    Models,
    Repair,
    Update,
    Updates,
    Verify,
)
from gglib_nb.notebook.grammar import GrammarError, Verb, about, reference

ORDERS: Final[tuple[str, ...]] = get_args(ModelOrder)
STATES: Final[tuple[str, ...]] = (*get_args(ModelState), "update")

_ID: Final = "ID is an id as %gguf models shows it, a part that only one has, or #2 for its second row."


def _declare_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="TEXT", nargs="*")
    parser.add_argument("--sort", choices=ORDERS, default="newest")
    parser.add_argument("--only", metavar="STATE", choices=STATES, default="")


def _build_models(given: SimpleNamespace) -> Command:
    return Models(" ".join(given.words), given.sort, given.only)


def _declare_path(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="ID")
    parser.add_argument("--for", dest="program", metavar="PROGRAM", choices=PROGRAMS)


def _declare_delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="ID")
    parser.add_argument("--yes", action="store_true")


def _declare_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="ID", nargs="?")
    parser.add_argument("--all", action="store_true")


def _build_verify(given: SimpleNamespace) -> Command:
    if given.all == (given.reference is not None):
        raise GrammarError("name one model, or write --all")
    return Verify(given.reference)


def _declare_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER")


def _declare_update(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="ID")
    parser.add_argument("--keep", action="store_true")


MODEL_VERBS: Final[dict[str, Verb]] = {
    "models": Verb(
        f"models [TEXT] [--sort {'|'.join(ORDERS)}] [--only STATE]",
        "List the models that are here: size, quantization, parameters, context, state, folder, free disk.",
        _declare_models,
        _build_models,
        explains=(
            "TEXT is what a model's id, architecture or path holds.",
            f"STATE is {', '.join(STATES)}; update: a newer version is known.",
        ),
    ),
    "path": Verb(
        "path ID [--for PROGRAM]",
        "Give the path that llama.cpp opens, or the lines that load it elsewhere; also as p = %gguf path ID.",
        _declare_path,
        lambda given: ModelPath(given.reference, given.program),
        "model",
        (_ID, f"PROGRAM is {', '.join(PROGRAMS)}."),
    ),
    "verify": Verb(
        "verify ID | verify --all",
        "Hash a model's files anew; says which bytes are wrong.",
        _declare_verify,
        _build_verify,
        "model",
        (_ID, "An interrupt ends it; the model stays as it was."),
    ),
    "repair": Verb(
        "repair ID",
        "Fetch what is wrong of a model, and only that; the damaged file stays until the mended one is verified.",
        reference("ID"),
        about(Repair),
        "model",
        (_ID, "What is wrong is looked for first, unless verify has found it."),
    ),
    "import": Verb(
        "import FOLDER",
        "Register the GGUF files that lie in a folder; nothing is moved or copied.",
        _declare_import,
        lambda given: Import(given.folder),
        takes="folder",
        explains=(
            "The Hugging Face cache, LM Studio's and llama.cpp's folders tell which repository a file comes from.",
        ),
    ),
    "updates": Verb(
        "updates [ID]",
        "See which models have a new version on the Hub, and what has changed in it. Nothing is fetched.",
        reference("ID", optional=True),
        about(Updates),
        "model",
        (_ID,),
    ),
    "update": Verb(
        "update ID [--keep]",
        "Fetch a model's new version; it takes the old one's place once it is verified.",
        _declare_update,
        lambda given: Update(given.reference, given.keep),
        "model",
        (_ID, "--keep keeps the old version too, under an id with its commit."),
    ),
    "forget": Verb(
        "forget ID",
        "Take a model off the list; its files stay.",
        reference("ID"),
        about(Forget),
        "model",
        (_ID,),
    ),
    "delete": Verb(
        "delete ID [--yes]",
        "Delete a model's files; says what that frees, and asks.",
        _declare_delete,
        lambda given: Delete(given.reference, given.yes),
        "model",
        (_ID, "What another model uses, such as a projector, stays. --yes does not ask."),
    ),
}
