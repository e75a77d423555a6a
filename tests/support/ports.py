"""Ports on loopback for servers that cannot choose one themselves."""

import secrets
import socket

# Below the ports that systems give to connections and to servers that ask for any: another process could get the port
# meanwhile.
_FIRST, _COUNT = 20_000, 12_000


def free_port() -> int:
    """A port on which no process listens."""
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
