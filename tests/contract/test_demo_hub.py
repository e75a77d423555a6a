"""The embedded hub as a user of it sees it: address, log, speed, revisions."""

import hashlib
from http.client import HTTPConnection
from urllib.parse import urlsplit

from gglib_nb.demo import DemoHub


def test_a_file_of_the_hub_arrives_through_its_signed_url(hub: DemoHub) -> None:
    first = HTTPConnection("127.0.0.1", urlsplit(hub.url).port)
    first.request("GET", "/demo/small-GGUF/resolve/main/small-Q4_K_M.gguf")
    redirect = first.getresponse()
    redirect.read()

    location = urlsplit(redirect.headers["Location"])
    second = HTTPConnection("127.0.0.1", location.port)
    second.request("GET", f"{location.path}?{location.query}", headers={"Range": "bytes=0-299999"})
    body = second.getresponse().read()

    first.close()
    second.close()
    assert redirect.status == 302
    assert redirect.headers["X-Linked-Size"] == "300000"
    assert redirect.headers["X-Linked-ETag"] == f'"{hashlib.sha256(body).hexdigest()}"'
    assert hub.ranges("small-Q4_K_M.gguf") == [(0, 299_999)]
    assert hub.bytes_sent("small-Q4_K_M.gguf") == 300_000
