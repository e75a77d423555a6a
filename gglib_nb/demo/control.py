"""The embedded hub's handle for other processes: an origin of its own that changes speed and faults and reads the log.

Everything it does is a method of `DemoHub`; requests to it are in no log. It is on loopback, has no password,
and is only there when asked for.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Self

from gglib_nb.demo import fault_kinds
from gglib_nb.demo.faults import Fault, PlacedFault
from gglib_nb.demo.hub import DemoHub
from gglib_nb.demo.messages import Request, Response, json_response
from gglib_nb.demo.request_log import RequestLog
from gglib_nb.demo.server import OriginServer
from gglib_nb.demo.throttle import Throttle

FAULT_KINDS: Mapping[str, Callable[..., Fault]] = {
    kind.__name__: kind
    for kind in (
        fault_kinds.BadToken,
        fault_kinds.BareEtag,
        fault_kinds.CaptivePortal,
        fault_kinds.Cut,
        fault_kinds.Direct,
        fault_kinds.Disabled,
        fault_kinds.ExpiredUrl,
        fault_kinds.Gzipped,
        fault_kinds.HangUp,
        fault_kinds.IgnoreRange,
        fault_kinds.Latency,
        fault_kinds.ListedSize,
        fault_kinds.LongBody,
        fault_kinds.MaskedXetHash,
        fault_kinds.NoContentLength,
        fault_kinds.NoLinkedHeaders,
        fault_kinds.RangeNotSatisfiable,
        fault_kinds.RateLimited,
        fault_kinds.Redirect,
        fault_kinds.ShortBody,
        fault_kinds.Stall,
        fault_kinds.Status,
        fault_kinds.StorageAt,
        fault_kinds.WrongBytes,
        fault_kinds.WrongContentRange,
    )
}


class ControlServer:
    """Serves a running hub's controls on a free loopback port. A context manager.

    | request | does |
    |---|---|
    | `GET /requests` | the request log as a list of objects |
    | `GET /flow?path=` | bytes per tenth of a second as `[[start_s, bytes], …]`, of all files without `path` |
    | `POST /speed {"bytes_per_second", "per_connection"}` | `DemoHub.set_speed` |
    | `POST /faults {"kind", "with": {…}, "where": {…}}` | `Faults.add` of a kind of `fault_kinds`; answers `{"number"}` |
    | `POST /faults/N/release`, `DELETE /faults/N` | ends a stall; removes a fault |
    | `POST /expire`, `POST /drop` | all signed URLs become invalid; all connections are closed |
    """

    def __init__(self, hub: DemoHub) -> None:
        self._hub = hub
        limit = Throttle()
        self._server = OriginServer("control", 0, self._respond, RequestLog(), lambda: (limit, limit))

    @property
    def url(self) -> str:
        """Where it is."""
        return self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

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
                fault = FAULT_KINDS[body["kind"]](**body.get("with", {}))
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
