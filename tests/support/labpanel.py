"""A panel in a JupyterLab notebook: locators for its parts, and the requests to its hub."""

from collections.abc import Callable

from playwright.sync_api import Locator, Page

from tests.support.faulty_hub import FaultyHub, RequestRecord
from tests.support.jlab import NotebookPage
from tests.support.models import MB

OpenNotebook = Callable[..., NotebookPage]


def row_of(where: NotebookPage | Locator, download_id: str) -> Locator:
    """The row of a download, in all views of the page or in one."""
    root: Page | Locator = where.page if isinstance(where, NotebookPage) else where
    return root.locator(f'.gglib-list [role=listitem][data-key="{download_id}"]')


def button_of(where: NotebookPage | Locator, download_id: str, name: str) -> Locator:
    """A button of a download's row."""
    return row_of(where, download_id).get_by_role("button", name=name)


def percent(bar: Locator) -> int:
    """The progress of a bar, once the page has it."""
    return int(bar.get_attribute("aria-valuenow") or 0)


def nothing_flows(records: tuple[RequestRecord, ...]) -> bool:
    """No file is in transfer any more."""
    return all(record.ended_s is not None for record in records if record.origin == "cdn")


def wait_until_bytes_flow(hub: FaultyHub) -> None:
    """Wait for a megabyte of a response. The rest takes minutes: the download still runs when a busy machine acts on it."""
    hub.wait_for(lambda records: any(one.bytes_sent > MB for one in records if one.origin == "cdn"))
    hub.set_speed(MB / 2)
