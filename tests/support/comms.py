"""A widget's comm that records sent messages in `messages`, for both ways in which ipywidgets creates comms.

ipywidgets 8 gets one from the package comm; ipywidgets 7 creates one of ipykernel's class, which needs a kernel.
"""

from typing import Any

import pytest
import traitlets
from typing_extensions import override


def record_comms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every widget created from now on a comm that records messages instead of sending them."""
    try:
        import comm
        from comm.base_comm import BaseComm
    except ImportError:
        monkeypatch.setattr("ipywidgets.widgets.widget.Comm", _recording_comm_of_ipykernel())
        return

    class RecordingComm(BaseComm):
        def __init__(self, *given: Any, **named: Any) -> None:
            self.messages: list[Any] = []
            super().__init__(*given, **named)

        @override
        def publish_msg(self, msg_type: str, data: Any = None, *_given: Any, **_named: Any) -> None:
            if msg_type == "comm_msg":
                self.messages.append(data)

    monkeypatch.setattr(comm, "create_comm", RecordingComm)


def _recording_comm_of_ipykernel() -> type:
    from ipykernel.comm import Comm

    def publish(self: Any, msg_type: str, data: Any = None, *_given: Any, **_named: Any) -> None:
        if msg_type == "comm_msg":
            self.messages.append(data)

    def set_closed(is_closed: bool) -> Any:
        return lambda self, *_given, **_named: setattr(self, "_closed", is_closed)

    parts = {
        "kernel": traitlets.Any("without one, a widget sends nothing"),
        "messages": traitlets.List(),
        "open": set_closed(False),
        "close": set_closed(True),
        "_publish_msg": publish,
    }
    return type("RecordingComm", (Comm,), parts)
