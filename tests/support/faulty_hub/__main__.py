"""The faulty hub in a separate process; see `process.HubProcess`, which starts it."""

import argparse
import signal
import threading
from pathlib import Path

from gglib_nb.demo import generated_repositories
from tests.support.faulty_hub.control import ControlServer
from tests.support.faulty_hub.hub import FaultyHub


def main() -> None:
    """Serves generated repositories until SIGTERM; writes two URLs, the hub's and its control's, one a line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url_file", type=Path)
    parser.add_argument("--speed", type=float, metavar="MB/s", help="limit for all files together")
    options = parser.parse_args()
    asked_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.set())
    speed = options.speed and options.speed * 1_000_000
    with FaultyHub(generated_repositories(), bytes_per_second=speed) as hub, ControlServer(hub) as control:
        unfinished = options.url_file.with_name(f"{options.url_file.name}.part")
        unfinished.write_text(f"{hub.url}\n{control.url}\n", encoding="utf-8")
        unfinished.replace(options.url_file)  # a process that waits for the file finds it complete
        asked_to_stop.wait()


if __name__ == "__main__":
    main()
