"""The embedded hub as a command: `python -m gglib_nb.demo`.

Serves generated repositories, or a folder of real files, until it is stopped. Its first line of output is
the URL to use as `HF_ENDPOINT`.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

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
        hub = DemoHub(repositories, bytes_per_second=options.speed and options.speed * _MEGABYTE, port=options.port)
    except OSError as error:
        print(f"The embedded hub cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    with hub:
        lines = [f"HF_ENDPOINT={hub.url}", *page_lines(repositories), "Stop it with Ctrl-C."]
        print("\n".join(lines), flush=True)  # noqa: T201
        asked_to_stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gglib_nb.demo", description="A hub on loopback that serves GGUF models."
    )
    parser.add_argument("--folder", type=Path, help="serve <owner>/<name>/… of this folder, or else the folder itself")
    parser.add_argument("--port", type=int, default=0, help="port of the hub; a free one if left out")
    parser.add_argument("--speed", type=float, metavar="MB/s", help="limit for all files together; none if left out")
    return parser


def _hash_all(repositories: Sequence[DemoRepository]) -> None:
    """Compute every SHA-256 now (about 1 s per GiB), so that no client waits for it until it times out."""
    for repository in repositories:
        commit = repository.commit()
        for file in commit.files.values() if commit else ():
            file.blob_id  # noqa: B018  # computed on first use, then kept


if __name__ == "__main__":
    sys.exit(main())
