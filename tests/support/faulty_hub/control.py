"""The faulty hub's control for other processes: a separate origin that changes speed and faults and reads the log.

Each of its actions is a method of `FaultyHub`; requests to it are not logged. It is on loopback, has no password,
and runs only on request.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Self

from gglib_nb.demo.messages import Request, Response, json_response
from gglib_nb.demo.server import Line, OriginServer, send
from gglib_nb.demo.throttle import Throttle
from tests.support.faulty_hub import fault_kinds
from tests.support.faulty_hub.faults import Fault, PlacedFault
from tests.support.faulty_hub.hub import FaultyHub


class ControlServer:
    """Serves a running hub's controls on a free loopback port. A context manager.

    | request | does |
    |---|---|
    | `GET /requests` | the request log as a list of objects |
    | `GET /flow?path=` | bytes per tenth of a second as `[[start_s, bytes], …]`, of all files without `path` |
    | `POST /speed {"bytes_per_second", "per_connection"}` | `FaultyHub.set_speed` |
    | `POST /faults {"kind", "with": {…}, "where": {…}}` | `Faults.add` of a kind of `fault_kinds`; answers `{"number"}` |
    | `POST /faults/N/release`, `DELETE /faults/N` | ends a stall; removes a fault |
    | `POST /expire`, `POST /drop` | all signed URLs become invalid; all connections are closed |
    """

    def __init__(self, hub: FaultyHub) -> None:
        self._hub = hub
        self._server = OriginServer("control", 0, self._answer, Throttle())

    @property
    def url(self) -> str:
        """Its URL."""
        return self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _answer(self, line: Line, request: Request) -> bool:
        return send(line, request, self._respond(request))

    def _respond(self, request: Request) -> Response:
        try:
            body = json.loads(request.body) if request.body else {}
            return json_response(self._act(request, body))
        except (LookupError, TypeError, ValueError) as error:
            return json_response({"error": f"{type(error).__name__}: {error}"}, 400)

    def _act(self, request: Request, body: dict[str, Any]) -> object:
        match request.method, request.segments:
            case "GET", ("requests",):
                return [asdict(record) for record in self._hub.requests]
            case "GET", ("flow",):
                return self._hub.flow(request.query.get("path", [None])[0])
            case "POST", ("speed",):
                self._hub.set_speed(body.get("bytes_per_second"), body.get("per_connection"))
            case "POST", ("expire",):
                self._hub.expire_signed_urls()
            case "POST", ("drop",):
                self._hub.drop_connections()
            case "POST", ("faults",):
                fault = _fault_kind(body["kind"])(**body.get("with", {}))
                return {"number": self._hub.faults.add(fault, **body.get("where", {})).number}
            case method, ("faults", number, *rest):
                self._change_fault(method, self._hub.faults.get(int(number)), rest)
            case _:
                raise LookupError(f"no such control: {request.method} {request.path}")
        return None

    def _change_fault(self, method: str, placed: PlacedFault, rest: list[str]) -> None:
        if method == "DELETE":
            self._hub.faults.remove(placed)
        elif isinstance(placed.fault, fault_kinds.Stall) and rest == ["release"]:
            placed.fault.release()
        else:
            raise LookupError(f"no such control of a fault: {method} {rest}")


def _fault_kind(name: str) -> Callable[..., Fault]:
    kind: Callable[..., Fault] | None = getattr(fault_kinds, name, None)
    if not (isinstance(kind, type) and kind.__module__ == fault_kinds.__name__):
        raise LookupError(f"no such kind of fault: {name}")
    return kind
