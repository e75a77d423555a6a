"""A script that downloads one model with gglib_nb, starting manager and engine.

With `--warm-up` it downloads a tiny model first, like a kernel after its first download, and prints what the model
itself cost in both processes.
"""

import argparse
import json
import os
import time
from pathlib import Path

from gglib_nb import DownloadManager, DownloadManagerConfig


def used_cpu_s(manager: DownloadManager) -> float:
    """CPU seconds so far of this process and the engine."""
    import psutil

    assert manager.engine_pid is not None
    engine = psutil.Process(manager.engine_pid).cpu_times()
    return time.process_time() + engine.user + engine.system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo_id")
    parser.add_argument("quantization")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--warm-up", metavar="REPO_ID")
    options = parser.parse_args()
    folder = options.folder
    config = DownloadManagerConfig(
        models_directory=folder / "models",
        state_directory=folder / "state",
        hub_cache=folder / "hub",
        endpoint=os.environ["HF_ENDPOINT"],
    )
    manager = DownloadManager(config)
    try:
        if options.warm_up is None:
            manager.sync.download(options.repo_id, options.quantization)
        else:
            manager.sync.download(options.warm_up, options.quantization)
            started_s, used_before_s = time.monotonic(), used_cpu_s(manager)
            manager.sync.download(options.repo_id, options.quantization)
            ended_s = time.monotonic()
            used_s = used_cpu_s(manager) - used_before_s
            print(json.dumps({"wall_s": ended_s - started_s, "cpu_s": used_s, "ended_s": ended_s}))
    finally:
        manager.sync.close()


if __name__ == "__main__":
    main()
