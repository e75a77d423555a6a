"""A faulty hub in a separate process, for tests whose kernel or browser must not share ours."""

import json
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

_START_TIMEOUT_S = 60


class HubProcess:
    """`python -m tests.support.faulty_hub`, started by entering it and stopped by leaving.

    Args:
        folder: where the file with its URLs goes.
        arguments: more arguments of the command, such as `--speed 20`.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._url_file = folder / "hub-url.txt"
        self._command = [sys.executable, "-m", "tests.support.faulty_hub", str(self._url_file), *arguments]
        self.url = ""
        self.control_url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[3])
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._url_file.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the faulty hub did not start: exit status {self._process.poll()}")
            time.sleep(0.02)  # the file is the only sign that the process has started
        self.url, self.control_url = self._url_file.read_text(encoding="utf-8").split()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)

    def requests(self) -> list[dict[str, Any]]:
        """The request log: the fields of `RequestRecord`."""
        return list(self._call("GET", "/requests"))

    def flow(self, path_in_repo: str | None = None) -> list[tuple[float, int]]:
        """Bytes sent per tenth of a second: (start in monotonic seconds, bytes)."""
        query = "" if path_in_repo is None else f"?path={quote(path_in_repo)}"
        return [(start_s, sent) for start_s, sent in self._call("GET", f"/flow{query}")]

    def bytes_sent(self, path_in_repo: str | None = None) -> int:
        """Bytes of files sent, of one or of all."""
        return sum(sent for _, sent in self.flow(path_in_repo))

    def ranges(self, path_in_repo: str) -> list[tuple[int | None, int | None] | None]:
        """The ranges of a file requested from the CDN, in order; `None` is the whole file."""
        return [
            tuple(record["range"]) if record["range"] else None
            for record in self.requests()
            if record["origin"] == "cdn" and record["path_in_repo"] == path_in_repo and record["method"] == "GET"
        ]

    def set_speed(self, bytes_per_second: float | None = None, per_connection: float | None = None) -> None:
        """Change the limits now: `None` means unlimited, 0 holds everything."""
        self._call("POST", "/speed", {"bytes_per_second": bytes_per_second, "per_connection": per_connection})

    def add_fault(self, kind: str, *, where: dict[str, Any] | None = None, **fields: Any) -> int:
        """Add a fault of `fault_kinds` by its name; `where` as `Faults.add`. Returns its number."""
        number: int = self._call("POST", "/faults", {"kind": kind, "with": fields, "where": where or {}})["number"]
        return number

    def release(self, number: int) -> None:
        """End a stall."""
        self._call("POST", f"/faults/{number}/release")

    def remove_fault(self, number: int) -> None:
        """Remove a fault."""
        self._call("DELETE", f"/faults/{number}")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        connection = HTTPConnection("127.0.0.1", urlsplit(self.control_url).port, timeout=60)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            value = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {value['error']}")
        return value
