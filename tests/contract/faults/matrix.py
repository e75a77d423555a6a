"""The fault matrix: every known faulty behaviour of hub, storage, line, disk and process, as rows.

Each row states the fault, how it is made, what the user sees, and what holds afterwards in addition to the rules that
hold after every fault (`test_matrix.run`). A new fault is a new row; MATRIX.md is generated from this file.
It is long because the table is read and compared as a whole.
"""

from collections.abc import Mapping

from gglib_nb.errors import (
    CertificateError,
    DiskFullError,
    GatedRepoError,
    HubError,
    HubUnavailableError,
    IntegrityError,
    InvalidTokenError,
    NetworkError,
    RateLimitedError,
    RemoteChangedError,
    RepoNotFoundError,
    RevisionNotFoundError,
    StalledError,
    StorageError,
)
from tests.contract.faults import happenings
from tests.contract.faults.row import (
    MANY_SHARDS,
    SHARDS,
    Answer,
    Fails,
    Heals,
    OnLine,
    Proved,
    Refused,
    Row,
)
from tests.support.faulty_hub import (
    BareEtag,
    CaptivePortal,
    Cut,
    Direct,
    Disabled,
    ExpiredUrl,
    Gzipped,
    HangUp,
    IgnoreRange,
    Latency,
    ListedSize,
    LongBody,
    NoContentLength,
    NoLinkedHeaders,
    RangeNotSatisfiable,
    RateLimited,
    Redirect,
    ShortBody,
    Stall,
    Status,
    StorageAt,
    WrongBytes,
    WrongContentRange,
)
from tests.support.line import Mode

LISTING = "/api/models/{repo}*"
_LOG_IN = "log in with `hf auth login` or %gguf login, or set HF_TOKEN"
_BUSY = (408, 425, 429, 500, 502, 503, 504)


def _listing(fault, times=None) -> Answer:
    return Answer(fault, "hub", times, path=LISTING)


THE_LISTING = (
    Row(
        "The listing has several pages and folders",
        (),
        Proved(
            "tests/contract/test_hub_client.py::test_a_listing_follows_every_page_and_every_folder",
            "",
            "every file is listed",
        ),
    ),
    Row(
        "Digests are masked with stars, as in gated repositories",
        (),
        Proved(
            "tests/contract/test_hub_client.py::test_a_masked_hash_is_not_a_digest", "", "nothing is compared with them"
        ),
    ),
    Row(
        "The branch moves while it is listed",
        (),
        Proved(
            "tests/contract/test_hub_client.py::test_a_branch_that_moves_during_a_listing_does_not_change_it",
            "",
            "the listing is that of one commit",
        ),
    ),
    Row(
        "There is no such repository (401 without a code, as the Hub responds without a login)",
        (_listing(Status(401)),),
        Refused(
            RepoNotFoundError,
            f"There is no repository {{repo}} at {{hub}}, or it is private. Check the spelling; for a private repository, {_LOG_IN}.",
        ),
    ),
    Row(
        "There is no such repository (404)",
        (_listing(Status(404, "RepoNotFound")),),
        Refused(
            RepoNotFoundError,
            f"There is no repository {{repo}} at {{hub}}, or it is private. Check the spelling; for a private repository, {_LOG_IN}.",
        ),
    ),
    Row(
        "The token is invalid",
        (_listing(Status(401, None, "Invalid credentials in Authorization header")),),
        Refused(InvalidTokenError, f"{{hub}} does not accept the token: {_LOG_IN} again."),
    ),
    Row(
        "The repository was disabled",
        (_listing(Disabled()),),
        Refused(RepoNotFoundError, "{repo} was disabled by the Hub or its owner; choose another repository."),
    ),
    Row(
        "The repository is gated and the user is not logged in (401)",
        (_listing(Status(401, "GatedRepo", "Access to it is restricted.")),),
        Refused(
            GatedRepoError, f"{{repo}} is gated: accept its terms on {{hub}}/{{repo}}, then {_LOG_IN}, and try again."
        ),
    ),
    Row(
        "The Hub asks to wait for an hour (429)",
        (_listing(RateLimited(3600)),),
        Refused(
            RateLimitedError,
            f"{{hub}} limits the number of requests (429). Try again in 1 h 00 min. Logged-in users have a higher limit: {_LOG_IN}.",
        ),
    ),
    Row(
        "The network requires a login: its own page with 200",
        (),
        Proved(
            "tests/contract/test_hub_faults.py::test_permanent_faults_are_reported",
            "{hub} did not answer like a Hub. Open it in a browser: the network may ask for a login, or HF_ENDPOINT may be wrong.",
            "nothing was queued",
        ),
    ),
    Row(
        "The Hub is not ready (408, 425, 429, 500, 502, 503, 504), hangs up, truncates its response or stalls, twice",
        (),
        Proved("tests/contract/test_hub_faults.py::test_a_listing_survives_temporary_faults", "", "queued"),
    ),
    Row(
        "A proxy requires a login (407)",
        (),
        Proved(
            "tests/unit/test_hub_answers.py::test_each_response_has_one_meaning",
            "The proxy for {hub} asks for a user name and password (407). Set HTTPS_PROXY and HTTP_PROXY to http://name:password@proxy:port, then restart the kernel.",
            "nothing was queued",
        ),
    ),
    Row(
        "The listing states another size than the Hub's redirect",
        (_listing(ListedSize(1000)),),
        Fails(
            RemoteChangedError,
            "{file} has changed on the hub since it was listed. Download it again.",
            asks=1,
            again="queue",
        ),
    ),
    Row(
        "The listing states another size than only the storage shows",
        (_listing(ListedSize(-1000)), Answer(NoLinkedHeaders(), "hub", None)),
        Fails(
            HubUnavailableError,
            "The storage of {hub} did not send {file} (a file of another size); try again later.",
            can_retry=True,
            again="queue",
        ),
    ),
)

ASKING_WHERE_A_FILE_IS = (
    *(
        Row(
            f"The Hub is not ready ({status})",
            (Answer(Status(status), "hub"),),
            Heals(f"retrying in {{n}} s (HTTP {status})"),
        )
        for status in _BUSY
    ),
    Row(
        "The Hub closes the connection without a response, twice",
        (Answer(HangUp(), "hub", 2),),
        Heals("retrying in {n} s (Remote end closed connection without response)"),
    ),
    Row("The Hub does not answer", (Answer(Latency(2_000), "hub"),), Heals("stalled for {n} s")),
    Row(
        "A rate limit in the Hub's own header", (Answer(RateLimited(1), "hub"),), Heals("retrying in {n} s (HTTP 429)")
    ),
    Row(
        "A rate limit in Retry-After, with another limit not reached",
        (Answer(RateLimited(1, stated_by="ratelimit-not-exhausted"), "hub"),),
        Heals("retrying in {n} s (HTTP 429)"),
    ),
    Row(
        "A rate limit until a date",
        (Answer(RateLimited(1, stated_by="http-date"), "hub"),),
        Heals("retrying in {n} s (HTTP 429)"),
    ),
    Row(
        "Retry-After: 0 does not cause an immediate retry",
        (Answer(Status(503, headers={"Retry-After": "0"}), "hub", 2),),
        Heals("retrying in {n} s (HTTP 503)"),
    ),
    Row(
        "The Hub is never ready",
        (Answer(Status(503), "hub", None),),
        Fails(HubUnavailableError, "{hub} failed (503) at {file}; try again later.", can_retry=True),
    ),
    Row(
        "The Hub asks to wait for an hour during the queue",
        (Answer(RateLimited(3600), "hub", None),),
        Fails(
            RateLimitedError,
            "{hub} limits the number of requests (429). Try again in 1 h 00 min.",
            can_retry=True,
            asks=1,
        ),
    ),
    Row(
        "The repository has been deleted (404)",
        (Answer(Status(404, "RepoNotFound"), "hub", None),),
        Fails(
            RepoNotFoundError,
            f"There is no repository {{repo}} at {{hub}}, or it is private. Check the spelling; for a private repository, {_LOG_IN}.",
            asks=1,
        ),
    ),
    Row(
        "The commit has been deleted (404)",
        (Answer(Status(404, "RevisionNotFound"), "hub", None),),
        Fails(
            RevisionNotFoundError,
            "{repo} has no commit {commit}: its owner may have rewritten its history. Queue it again to get the current files.",
            asks=1,
        ),
    ),
    Row(
        "A file is deleted between the listing and its download (404)",
        (Answer(Status(404, "EntryNotFound"), "hub", None, path="{repo}/*-00002-*"),),
        Fails(
            HubError,
            "{repo} has no file 'model-00002-of-00003.gguf' at {commit}; %gguf plan shows the current files.",
            asks=5,
        ),
        files=SHARDS,
    ),
    Row(
        "The repository is gated after queueing (401)",
        (Answer(Status(401, "GatedRepo"), "hub", None),),
        Fails(
            GatedRepoError,
            f"{{repo}} is gated: accept its terms on {{hub}}/{{repo}}, then {_LOG_IN}, and try again.",
            asks=1,
        ),
    ),
    Row(
        "Access is refused without a reason (403)",
        (Answer(Status(403), "hub", None),),
        Fails(
            InvalidTokenError,
            f"{{hub}}/{{repo}} is restricted (403); {_LOG_IN} with an account that may read it.",
            asks=1,
        ),
    ),
    Row(
        "The token has become invalid (401)",
        (Answer(Status(401, None, "Invalid credentials in Authorization header"), "hub", None),),
        Fails(InvalidTokenError, f"{{hub}} does not accept the token: {_LOG_IN} again.", asks=1),
    ),
    Row(
        "The repository is disabled after queueing",
        (Answer(Disabled(), "hub", None),),
        Fails(RepoNotFoundError, "{repo} was disabled by the Hub or its owner; choose another repository.", asks=1),
    ),
    Row(
        "An unexpected status (451)",
        (Answer(Status(451), "hub", None),),
        Fails(HubError, "{hub} refused {file} (451): no reason given.", asks=1),
    ),
    Row(
        "Circular redirects",
        (Answer(Redirect(), "hub", None),),
        Fails(HubUnavailableError, "{hub} redirects {file} too many times. Try again later.", can_retry=True, asks=6),
    ),
    Row(
        "A redirect to a file of this machine",
        (Answer(Redirect("file:///etc/hostname"), "hub", None),),
        Fails(
            HubUnavailableError,
            "{host} redirects {file} to an invalid address; try again later.",
            can_retry=True,
            asks=1,
        ),
    ),
    Row("A redirect within the hub, by its full address", (Answer(Redirect(), "hub"),), Heals()),
    Row(
        "The network requires a login during the queue: its own page with 200",
        (Answer(CaptivePortal(), "hub", None),),
        Heals(
            "retrying in {n} s ({host} sent a web page instead of the file. Check whether the network asks for a login.)"
        ),
    ),
    Row("Another hub serves the file itself, with a bare SHA-256 as ETag", (Answer(Direct(), "hub", None),), Heals()),
    Row(
        "Another hub serves the file itself, with the linked headers",
        (Answer(Direct(is_linked=True, is_bare=False), "hub", None),),
        Heals(),
    ),
    Row("The ETag has no quotes", (Answer(BareEtag(), "hub", None),), Heals()),
    Row(
        "The redirect has neither size nor SHA-256, and the storage's ETag looks like a SHA-256",
        (Answer(NoLinkedHeaders(), "hub", None),),
        Heals(),
    ),
)

OTHER_PLACES = (
    Row(
        "The repository was renamed, and a token is needed",
        (),
        Proved("tests/contract/engine/test_faults.py::test_the_token_is_sent_to_a_renamed_repository", "", "complete"),
    ),
    Row(
        "A small file is served by the Hub's own cache (307)",
        (),
        Proved(
            "tests/contract/engine/test_faults.py::test_a_small_file_is_downloaded_through_the_resolve_cache",
            "",
            "complete",
        ),
    ),
    Row(
        "A file is empty",
        (),
        Proved("tests/contract/engine/test_faults.py::test_an_empty_file_is_downloaded", "", "complete"),
    ),
    Row(
        "A hub serves only whole files, without a length, and size and SHA-256 are unknown",
        (),
        Proved("tests/contract/engine/test_faults.py::test_other_hub_implementations_are_supported", "", "complete"),
    ),
    Row(
        "No SHA-256 is known",
        (),
        Proved(
            "tests/contract/engine/test_faults.py::test_without_a_digest_the_file_is_stored_as_unverified",
            "not verified: the Hub gives no SHA-256",
            "complete, and never reported as verified",
        ),
    ),
    Row(
        "The branch moves between two shards",
        (happenings.BRANCH_MOVED,),
        Heals(),
        files=SHARDS,
        state="all shards are of the commit that was listed: every URL names it",
    ),
    Row(
        "The storage is on another host, over plain HTTP",
        (happenings.STORAGE_BY_NAME,),
        Heals(),
    ),
    Row(
        "A branch name is never requested",
        (),
        Proved(
            "tests/contract/engine/test_faults.py::test_every_url_names_the_commit", "", "every URL names the commit"
        ),
    ),
    Row(
        "The token is sent only to the Hub",
        (),
        Proved(
            "tests/contract/engine/test_faults.py::test_the_token_is_sent_to_the_hub_and_never_to_the_cdn",
            "",
            "complete",
        ),
    ),
)

FETCHING = (
    *(
        Row(
            f"The storage is not ready ({status})",
            (Answer(Status(status)),),
            Heals(f"retrying in {{n}} s (HTTP {status})"),
        )
        for status in _BUSY
    ),
    Row(
        "The connection ends in the middle of the body",
        (Answer(Cut(1_000_000)),),
        Heals("retrying in {n} s (the connection ended early)", kept_bytes=1_000_000),
    ),
    Row("The connection is reset in the middle of the body", (Answer(Cut(1_500_000, is_reset=True)),), Heals()),
    Row(
        "The connection ends before the first byte",
        (Answer(Cut(0)),),
        Heals("retrying in {n} s (the connection ended early)"),
    ),
    Row(
        "The connection ends without a response",
        (Answer(HangUp()),),
        Heals("retrying in {n} s (Remote end closed connection without response)"),
    ),
    Row("No response header arrives", (Answer(Latency(3_000)),), Heals("stalled for {n} s")),
    Row("No data arrives after the header", (Answer(Stall()),), Heals("stalled for {n} s")),
    Row(
        "Data stops in the middle of the body",
        (Answer(Stall(700_000)),),
        Heals(kept_bytes=180_000),
        state="the rest is downloaded over another connection",
    ),
    Row("The signed URL has expired (403)", (Answer(ExpiredUrl()),), Heals()),
    Row(
        "The signed URL expires during the download",
        (Answer(Cut(1_000_000)), Answer(ExpiredUrl(), skip=1)),
        Heals(kept_bytes=1_000_000),
    ),
    Row("The storage rejects its own signature once (403 without a reason)", (Answer(Status(403)),), Heals()),
    Row(
        "The storage rejects every signature (403)",
        (Answer(ExpiredUrl(), times=None),),
        Fails(
            HubUnavailableError,
            "The storage of {hub} did not send {file} (HTTP 403); try again later.",
            can_retry=True,
        ),
    ),
    Row(
        "The range cannot be satisfied (416 with the size)",
        (Answer(RangeNotSatisfiable()),),
        Heals("retrying in {n} s (HTTP 416)"),
    ),
    Row(
        "The range cannot be satisfied (416 without the size)",
        (Answer(RangeNotSatisfiable(has_content_range=False)),),
        Heals("retrying in {n} s (HTTP 416)"),
    ),
    Row(
        "The range cannot be satisfied because the file has changed (416 with another size)",
        (Answer(Status(416, headers={"Content-Range": "bytes */9"})),),
        Fails(
            RemoteChangedError,
            "The CDN now has a file of another size. Download it again.",
            asks=2,
            again="queue",
        ),
    ),
    Row(
        "A 206 with another start",
        (Answer(WrongContentRange(start_shift=7)),),
        Heals("retrying in {n} s (another range than requested)"),
    ),
    Row(
        "A 206 of a file of another size",
        (Answer(WrongContentRange(total_shift=9)),),
        Heals("retrying in {n} s (a range of a file of another size)"),
    ),
    Row("The range is ignored: 200 with the whole file", (Answer(IgnoreRange(), times=None),), Heals()),
    Row(
        "A body that is too short for its range",
        (Answer(ShortBody(1000)),),
        Heals("retrying in {n} s (the connection ended early)"),
    ),
    Row("A body that is longer than its range", (Answer(LongBody(1000)),), Heals()),
    Row("Compressed against the request", (Answer(Gzipped(is_forced=True)),), Heals()),
    Row("Compressed only if accepted, which it is not", (Answer(Gzipped()),), Heals()),
    Row("No length: the body ends with the connection", (Answer(NoContentLength(), times=None),), Heals()),
    Row("No length: the body is chunked", (Answer(NoContentLength("chunked"), times=None),), Heals()),
    Row("One wrong byte, the length is right", (Answer(WrongBytes(2_000_000)),), Heals(begins_anew=True)),
    Row(
        "A wrong byte every time",
        (Answer(WrongBytes(2_000_000), times=None),),
        Fails(
            IntegrityError,
            "{file} failed its SHA-256 check twice and was deleted. Try again later.",
            can_retry=True,
            asks=4,
        ),
    ),
    Row("The storage redirects once", (Answer(Redirect()),), Heals()),
    Row(
        "The storage redirects endlessly",
        (Answer(Redirect(), times=None),),
        Fails(
            HubUnavailableError,
            "The storage of {hub} did not send {file} (redirected too many times); try again later.",
            can_retry=True,
        ),
    ),
    Row(
        "The storage redirects to a file of this machine",
        (Answer(Redirect("file:///etc/hostname"), times=None),),
        Fails(
            HubUnavailableError,
            "{storage} redirects {file} to an invalid address; try again later.",
            can_retry=True,
            asks=2,
        ),
    ),
    Row(
        "The network requires a login for the storage: its own page with 200",
        (Answer(Cut(1_000_000)), Answer(CaptivePortal(), skip=1, times=None)),
        Heals("retrying in {n} s (a file of another size)", kept_bytes=1_000_000),
    ),
)

LINES = (
    Row(
        "The hub's name cannot be resolved",
        (),
        Proved(
            "tests/contract/faults/test_hub_lines.py::test_an_unresolvable_hub_name_is_reported",
            "{host} cannot be reached; check the connection, HF_ENDPOINT and the proxy.",
            "nothing was queued",
        ),
    ),
    Row(
        "The hub's certificate has expired, is for another name, or is self-signed",
        (),
        Proved(
            "tests/contract/faults/test_hub_lines.py::test_a_rejected_hub_certificate_is_reported_with_the_reason",
            "The certificate of {host} has expired or is not valid yet. Check this computer's clock. If it is right, try again when the certificate has been renewed.",
            "nothing was queued",
        ),
    ),
    Row(
        "Without a network some downloads are cancelled and some wait",
        (),
        Proved(
            "tests/contract/test_manager_lifecycle.py::test_without_a_network_the_whole_queue_waits_and_resumes_automatically",
            "waiting for the network since {clock}",
            "waiting downloads complete, none fails",
        ),
    ),
    Row(
        "The network is down for longer than a day (`GGLIB_NETWORK_WAIT_S`)",
        (),
        Proved(
            "tests/contract/engine/test_faults.py::test_a_network_outage_beyond_the_limit_fails_the_download",
            "No network since {clock}. Downloaded data is kept. Retry when the network is back.",
            "failed; `retry` resumes",
        ),
    ),
    Row(
        "Every connection receives 3 KB per second",
        (),
        Proved(
            "tests/contract/engine/test_lines.py::test_a_slow_connection_is_not_treated_as_stalled",
            "",
            "no connection is given up while bytes arrive",
        ),
    ),
    Row(
        "The line to the storage refuses connections",
        (OnLine(Mode.REFUSED),),
        Heals("retrying in {n} s (Connection refused)"),
    ),
    Row(
        "The line to the storage resets every connection", (OnLine(Mode.RESET),), Heals("retrying in {n} s ({reason})")
    ),
    Row("The line to the storage drops all data", (OnLine(Mode.SILENT),), Heals("stalled for {n} s")),
    Row(
        "The line to the storage breaks during the download",
        (OnLine(Mode.RESET),),
        Heals("retrying in {n} s ({reason})"),
        after_bytes=800_000,
    ),
    Row(
        "The line to the storage goes silent during the download",
        (OnLine(Mode.SILENT),),
        Heals("stalled for {n} s"),
        after_bytes=800_000,
    ),
    Row(
        "One connection slows down to ten bytes per second",
        (OnLine(Mode.TRICKLE_ONE),),
        Heals(),
        after_bytes=800_000,
        state="other connections take over its range",
    ),
    Row(
        "Every connection slows down to ten bytes per second",
        (happenings.TRICKLE,),
        Heals(),
        after_bytes=800_000,
        state="they are replaced, and the download is not given up",
        is_slow=True,
    ),
    Row(
        "The line to the hub refuses connections",
        (OnLine(Mode.REFUSED, "both"),),
        Refused(NetworkError, "{host} cannot be reached; check the connection, HF_ENDPOINT and the proxy."),
        is_slow=True,
    ),
    Row(
        "The network goes down",
        (OnLine(Mode.REFUSED, "both"),),
        Heals("waiting for the network since {clock}"),
        after_bytes=800_000,
    ),
    Row(
        "The storage's certificate has expired",
        (happenings.tls(lambda world: world.company.expired(), "a certificate that has expired"),),
        Fails(
            CertificateError,
            "The certificate of localhost:{n} has expired or is not valid yet. Check this computer's clock. If it is right, try again when the certificate has been renewed.",
            asks=1,
        ),
    ),
    Row(
        "The storage's certificate is for another name",
        (happenings.tls(lambda world: world.company.of_another_name(), "a certificate for another name"),),
        Fails(
            CertificateError,
            "The server at localhost:{n} has a certificate for another name. Check HF_ENDPOINT, the proxy, and whether the network asks for a login.",
            asks=1,
        ),
    ),
    Row(
        "The storage's certificate is self-signed",
        (happenings.tls(lambda world: world.other_company.server(), "a self-signed certificate"),),
        Fails(
            CertificateError,
            "The certificate of localhost:{n} is not trusted. If a proxy inspects TLS, set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to its certificate authority and restart the kernel. Otherwise check the computer's clock.",
            asks=1,
        ),
    ),
    Row(
        "The storage's certificate is from an authority in SSL_CERT_FILE",
        (happenings.tls(lambda world: world.company.server(), "a certificate of the company's own authority"),),
        Heals(),
    ),
    Row(
        "The storage's name cannot be resolved",
        (Answer(StorageAt("http://storage.invalid"), "hub", None),),
        Fails(
            NetworkError,
            "The connection for {file} keeps failing ({reason}); check the network, then retry.",
            can_retry=True,
        ),
    ),
    Row(
        "The storage always refuses connections, and the hub responds",
        (OnLine(Mode.REFUSED),),
        Fails(
            NetworkError,
            "The connection for {file} keeps failing (Connection refused); check the network, then retry.",
            can_retry=True,
        ),
    ),
    Row(
        "The storage is always silent, and the hub responds",
        (OnLine(Mode.SILENT),),
        Fails(
            StalledError,
            "{storage} has not answered for {n} s, several times. If a proxy or mirror downloads or scans {file} before it sends "
            "anything, set HF_HUB_DOWNLOAD_TIMEOUT to a higher number of seconds and restart the kernel. Otherwise retry later.",
            can_retry=True,
        ),
    ),
)

THE_DISK = (
    Row(
        "The disk has too little space",
        (_listing(ListedSize(10**16)),),
        Fails(
            DiskFullError,
            "The disk of {folder} is full: {size} more is needed, but only {size} is free. Free up some space, then retry. Downloaded data is kept.",
            asks=0,
            again="queue",
        ),
    ),
    Row(
        "The disk fills up during the download",
        (),
        Proved(
            "tests/contract/engine/test_disk.py::test_a_disk_that_fills_up_keeps_downloaded_data_and_reports_the_missing_space",
            "The disk of {folder} is full: {size} more is needed, but only {size} is free. Free up some space, then retry. Downloaded data is kept.",
            "failed; downloaded data is kept, and `retry` resumes",
        ),
    ),
    Row(
        "A quota is exhausted",
        (),
        Proved(
            "tests/contract/engine/test_disk.py::test_an_exhausted_quota_counts_as_a_full_disk",
            "The disk of {folder} is full although {size} is free: a quota, or the number of files that it can store, is used up. Free up some space, then retry. Downloaded data is kept.",
            "failed; downloaded data is kept, and `retry` resumes",
        ),
    ),
    Row(
        "The filesystem cannot store a file of that size",
        (happenings.LARGEST_FILE,),
        Fails(
            StorageError,
            "The disk of {folder} cannot store a file of that size (the limit of FAT is 4 GB). Move the models folder to another disk, then retry.",
        ),
    ),
    Row(
        "The folder is read-only",
        (happenings.READ_ONLY,),
        Fails(StorageError, "{target}.part.lease cannot be written: Permission denied. Check the folder, then retry."),
    ),
    Row(
        "The permission is lost during the download",
        (happenings.READ_ONLY,),
        Fails(StorageError, "{target}.part cannot be written: Permission denied. Check the folder, then retry."),
        after_bytes=800_000,
    ),
    Row(
        "A file is in place of the folder",
        (happenings.FILE_FOR_FOLDER,),
        Fails(StorageError, "{target} cannot be written: Not a directory. Check the folder, then retry."),
    ),
    Row(
        "A folder is in place of the target",
        (happenings.FOLDER_AT_TARGET,),
        Fails(StorageError, "{target} is not a file. Move it, then retry."),
    ),
    Row(
        "A folder is in place of the partial file",
        (happenings.FOLDER_AT_PART,),
        Fails(StorageError, "{target}.part cannot be written: Is a directory. Check the folder, then retry."),
    ),
    Row(
        "A folder is in place of the journal",
        (happenings.FOLDER_AT_JOURNAL,),
        Fails(
            StorageError,
            "{target}.part.journal{reason} cannot be written: Is a directory. Check the folder, then retry.",
        ),
    ),
    Row(
        "A different file is at the target",
        (happenings.OTHER_FILE,),
        Fails(
            StorageError,
            "Another file is stored at {target}. Move it, or download again with --force to replace it.",
        ),
    ),
    Row("The same file is at the target", (happenings.SAME_FILE,), Heals(), state="no byte is downloaded"),
    Row(
        "The folder is removed during the download",
        (happenings.FOLDER_REMOVED,),
        Heals(begins_anew=True),
        after_bytes=800_000,
    ),
    Row(
        "The partial file is deleted during the download",
        (happenings.PART_DELETED,),
        Heals(begins_anew=True),
        after_bytes=800_000,
    ),
    Row(
        "The partial file is replaced during the download",
        (happenings.PART_REPLACED,),
        Heals(begins_anew=True),
        after_bytes=800_000,
    ),
)

WHAT_LIES_THERE = (
    Row("The partial file has been edited", (happenings.PART_EDITED,), Heals(begins_anew=True), after_bytes=800_000),
    Row("The partial file has been truncated", (happenings.PART_CUT,), Heals(begins_anew=True), after_bytes=800_000),
    Row("The partial file has been deleted", (happenings.PART_GONE,), Heals(begins_anew=True), after_bytes=800_000),
    Row("The journal is torn", (happenings.JOURNAL_TORN,), Heals(begins_anew=True), after_bytes=800_000),
    Row(
        "A bit of the journal has flipped",
        (happenings.JOURNAL_FLIPPED,),
        Heals(begins_anew=True),
        after_bytes=800_000,
    ),
    Row("The journal is missing", (happenings.JOURNAL_GONE,), Heals(begins_anew=True), after_bytes=800_000),
    Row(
        "200 journals, torn, stale or with flipped bits",
        (),
        Proved(
            "tests/contract/faults/test_journals.py::test_any_journal_leads_to_the_right_file",
            "",
            "the right file, or no file",
        ),
    ),
    Row(
        "A lease of an earlier boot",
        (happenings.LEASE_OF_EARLIER_BOOT,),
        Heals(),
        state="no download waits",
        look=happenings.it_did_not_wait,
    ),
    Row("A lease of a process that has stopped", (happenings.LEASE_OF_THE_DEAD,), Heals(), state="no download waits"),
    Row("An empty lease", (happenings.LEASE_EMPTY,), Heals(), state="no other process is named"),
    Row("An unreadable lease", (happenings.LEASE_GARBLED,), Heals(), state="no other process is named"),
    Row(
        "A lease of another host that is silent",
        (happenings.LEASE_OF_ANOTHER_HOST,),
        Heals("another process is downloading this file"),
        files=MANY_SHARDS,
        state="one wait for all files together",
        look=happenings.it_waited_once_for_all_files,
    ),
    Row(
        "A folder is in place of the lease",
        (happenings.FOLDER_AT_LEASE,),
        Fails(
            StorageError,
            "{target}.part.lease cannot be written: there is a folder in its place. Check the folder, then retry.",
        ),
    ),
)

PROCESSES = (
    Row("The download process is killed", (happenings.ENGINE_KILLED,), Heals(begins_anew=True), after_bytes=800_000),
    Row(
        "The download process is suspended for a while",
        (happenings.ENGINE_STOPPED,),
        Heals("the download process does not answer ({n} s)"),
        after_bytes=800_000,
        is_slow=True,
    ),
    Row(
        "The download process is suspended, and a cancel waits for it",
        (),
        Proved(
            "tests/contract/test_manager_lifecycle.py::test_a_cancel_never_confirmed_by_a_stopped_engine_does_not_block_the_next_download",
            "the download process does not answer ({n} s)",
            "it is killed and replaced, and the next download runs",
        ),
    ),
    Row(
        "The download process was suspended, another process took over its file, and it resumes",
        (),
        Proved(
            "tests/contract/engine/test_sharing.py::test_a_suspended_engine_writes_nothing_into_a_file_it_lost",
            "another process is downloading this file",
            "it writes nothing more and uses the other's file",
        ),
    ),
    Row(
        "Another process downloads the same file and dies",
        (),
        Proved(
            "tests/contract/engine/test_sharing.py::test_a_second_process_takes_over_when_the_first_dies",
            "another process is downloading this file",
            "taken over, downloaded data is kept",
        ),
    ),
    Row(
        "The kernel is killed",
        (),
        Proved(
            "tests/notebook/test_kernel_kills.py::test_after_the_kernel_is_killed_the_engine_ends",
            "",
            "the download process ends within seconds",
        ),
    ),
    Row(
        "The kernel is killed, and another one resumes",
        (),
        Proved(
            "tests/notebook/test_kernel_kills.py::test_the_next_kernel_resumes_where_a_killed_one_stopped",
            "",
            "complete, at most the last seconds are downloaded twice",
        ),
    ),
    Row(
        "The machine sleeps for an hour",
        (),
        Proved(
            "tests/contract/faults/test_sleep.py::test_after_an_hours_sleep_only_missing_bytes_are_downloaded",
            "retrying in {n} s (the connection ended early)",
            "complete, nothing is downloaded twice",
        ),
    ),
    Row(
        "Kernel and download process are suspended together for an hour",
        (),
        Proved(
            "tests/unit/engine/test_watchdog.py::test_time_the_watchdog_slept_does_not_count_as_silence",
            "",
            "the download process does not count as silent",
        ),
    ),
    Row("The clock is set back by an hour", (happenings.CLOCK_BACK,), Heals(), after_bytes=800_000),
    Row("The clock is set ahead by two hours", (happenings.CLOCK_AHEAD,), Heals(), after_bytes=800_000),
    Row(
        "Every signed URL becomes invalid during the download",
        (happenings.URLS_EXPIRED, happenings.CONNECTIONS_DROPPED),
        Heals(),
        after_bytes=800_000,
    ),
)

TOGETHER = (
    Row(
        "Random faults of all kinds, while downloads are cancelled, paused, moved and retried, and kernels and download processes are killed",
        (),
        Proved(
            "tests/endurance/test_short_run.py::test_every_digest_is_right_after_random_faults_operations_and_kills",
            "",
            "every digest is right, or its row has the right error; no process, lease, thread, file or memory is left "
            "(`make endurance` for long)",
        ),
    ),
)

GROUPS: Mapping[str, tuple[Row, ...]] = {
    "Listing a repository": THE_LISTING,
    "Resolving a file on the Hub": ASKING_WHERE_A_FILE_IS,
    "Other locations of a file": OTHER_PLACES,
    "Downloading from the storage": FETCHING,
    "The line": LINES,
    "The disk": THE_DISK,
    "Left over from an earlier run": WHAT_LIES_THERE,
    "Processes and clocks": PROCESSES,
    "All together": TOGETHER,
}
