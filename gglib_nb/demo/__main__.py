"""The embedded hub as a command: `python -m gglib_nb.demo`.

Serves generated repositories, or a folder of real files, until it is told to stop. Prints on its first line
the URL to use as `HF_ENDPOINT`.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from gglib_nb.demo.control import ControlServer
from gglib_nb.demo.generated import generated_repositories
from gglib_nb.demo.hub import DemoHub
from gglib_nb.demo.listing import page_lines
from gglib_nb.demo.repositories import DemoRepository, repositories_from_folder

_MEGABYTE = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        repositories = repositories_from_folder(options.folder) if options.folder else generated_repositories()
        _hash_all(repositories)
        hub = _hub(options, repositories)
    except OSError as error:
        print(f"The embedded hub cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    with ExitStack() as stack:
        stack.enter_context(hub)
        urls = [hub.url]
        if options.control:
            urls.append(stack.enter_context(ControlServer(hub)).url)
        if options.url_file:
            _write_urls(options.url_file, urls)
        print("\n".join(_description(urls, hub)), flush=True)  # noqa: T201
        asked_to_stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gglib_nb.demo", description="A hub on loopback that serves GGUF models."
    )
    parser.add_argument("--folder", type=Path, help="serve <owner>/<name>/… of this folder, or else the folder itself")
    parser.add_argument("--port", type=int, default=0, help="port of the hub; a free one if left out")
    parser.add_argument("--speed", type=float, metavar="MB/s", help="limit for all files together; none if left out")
    parser.add_argument("--per-connection", type=float, metavar="MB/s", help="limit for each connection")
    parser.add_argument("--log", type=Path, help="append the requests to this file as JSON lines")
    parser.add_argument("--url-file", type=Path, help="write the hub's URL to this file, once it answers")
    parser.add_argument("--control", action="store_true", help="open a port for tests that changes speed and faults")
    return parser


def _hub(options: argparse.Namespace, repositories: Sequence[DemoRepository]) -> DemoHub:
    return DemoHub(
        repositories,
        bytes_per_second=options.speed and options.speed * _MEGABYTE,
        per_connection=options.per_connection and options.per_connection * _MEGABYTE,
        port=options.port,
        log_file=options.log,
    )


def _write_urls(path: Path, urls: Sequence[str]) -> None:
    """Write the URLs, one a line; who waits for the file finds it whole."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text("\n".join(urls) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _description(urls: Sequence[str], hub: DemoHub) -> list[str]:
    control = [f"control at {url}" for url in urls[1:]]
    return [f"HF_ENDPOINT={urls[0]}", *control, *page_lines(hub.repositories.values()), "Stop it with Ctrl-C."]


def _hash_all(repositories: Sequence[DemoRepository]) -> None:
    """Compute every SHA-256 now (about 1 s per GiB), so that no client waits for it within its timeout."""
    for repository in repositories:
        commit = repository.commit()
        for file in commit.files.values() if commit else ():
            file.blob_id  # noqa: B018  # computed on first use, then kept


if __name__ == "__main__":
    sys.exit(main())
