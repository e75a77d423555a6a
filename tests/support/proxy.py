"""A forward proxy as a real process, like a company's: CONNECT and plain HTTP, with a password, closed to some hosts."""

import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.odd_server import OddServer

_START_TIMEOUT_S = 60


class ProxyProcess:
    """`python -m proxy` on a free loopback port, started by entering it and stopped by leaving.

    Args:
        folder: Where its files go.
        login: The required `name:password`; None: no login.
        closed_to: Hosts to which it refuses connections.
    """

    def __init__(self, folder: Path, *, login: str | None = None, closed_to: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._port_file = folder / "port"
        self._log_file = folder / "proxy.log"
        self._login = login
        self.port = 0
        self._command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0", "--num-workers", "1"]
        self._command += ["--num-acceptors", "1", "--port-file", str(self._port_file), "--data-dir", str(folder)]
        self._command += ["--log-file", str(self._log_file), "--timeout", "60"]
        if login:
            self._command += ["--basic-auth", login]
        if closed_to:
            plugin = "proxy.plugin.FilterByUpstreamHostPlugin"
            self._command += ["--plugins", plugin, "--filtered-upstream-hosts", closed_to]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not (self._port_file.exists() and self._port_file.read_text().strip()):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"the proxy did not start: exit status {self._process.poll()}")
            time.sleep(0.02)  # the file is the only sign that the process has started
        self.port = int(self._port_file.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)

    @property
    def url(self) -> str:
        """Its address for `HTTPS_PROXY`, with the right login."""
        return self.url_with(self._login)

    def url_with(self, login: str | None) -> str:
        """Its address with another login."""
        return f"http://{login + '@' if login else ''}127.0.0.1:{self.port}"

    def wait_for_ports(self, ports: set[int]) -> set[int]:
        """The ports of this machine to which it has connected clients, once these are included; it writes when a tunnel ends."""
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not ports <= (reached := self._ports_reached()):
            assert time.monotonic() < deadline_s, f"only {reached} were reached through the proxy"
            time.sleep(0.02)  # as above
        return reached

    def _ports_reached(self) -> set[int]:
        text = self._log_file.read_text(encoding="utf-8", errors="replace") if self._log_file.exists() else ""
        return {int(port) for port in re.findall(r"(?:CONNECT|GET|HEAD) (?:127\.0\.0\.1|localhost):(\d+)", text)}


class FewTunnels(OddServer):
    """A proxy that allows so many tunnels at once, and refuses every further one with this status line.

    It counts a tunnel for `counted_s` after its end.

    Attributes:
        refusals: How many were refused.
    """

    def __init__(self, most: int, refusal: str, counted_s: float = 0) -> None:
        super().__init__(self._tunnel)
        self.refusals = 0
        self._counted_s = counted_s
        self._free = threading.Semaphore(most)
        self._refusal = refusal

    def _tunnel(self, client: socket.socket) -> None:
        host, port = self.ask(client).split()[1].rsplit(":", 1)
        if not self._free.acquire(blocking=False):
            self.refusals += 1
            client.sendall(f"HTTP/1.1 {self._refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        try:
            with socket.create_connection((host, int(port))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                back.start()
                self._pump(client, server)
                back.join()
        finally:
            threading.Timer(self._counted_s, self._free.release).start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
