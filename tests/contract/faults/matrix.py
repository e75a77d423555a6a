"""The fault matrix: every behaviour of hub, storage, line, disk and process that is known to happen, as rows.

Each row says what goes wrong, how that is made, what a person sees of it, and what holds afterwards beside the rules that
hold after all of them (`test_matrix.run`). A new fault is a new row; MATRIX.md is written from it.
Its length is that of the table, which is read and compared as a whole.
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
    SHARDS,
    Answer,
    Fails,
    Heals,
    OnLine,
    Proved,
    Refused,
    Row,
)
from tests.contract.faults.world import SHORT
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
        "The listing comes in pages and folders",
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
        "There is no such repository (401 without a code, as the Hub tells who is not logged in)",
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
        "The token is none",
        (_listing(Status(401, None, "Invalid credentials in Authorization header")),),
        Refused(InvalidTokenError, f"{{hub}} does not accept the token: {_LOG_IN} again."),
    ),
    Row(
        "The repository was disabled",
        (_listing(Disabled()),),
        Refused(RepoNotFoundError, "{repo} was disabled by the Hub or its owner; choose another repository."),
    ),
    Row(
        "The repository is gated and nobody is logged in (401)",
        (_listing(Status(401, "GatedRepo", "Access to it is restricted.")),),
        Refused(
            GatedRepoError, f"{{repo}} is gated: accept its terms on {{hub}}/{{repo}}, then {_LOG_IN}, and try again."
        ),
    ),
    Row(
        "The Hub asks for an hour's rest (429)",
        (_listing(RateLimited(3600)),),
        Refused(
            RateLimitedError,
            f"{{hub}} limits the number of requests (429). Try again after {{clock}}. Logged-in users have a higher limit: {_LOG_IN}.",
        ),
    ),
    Row(
        "The network wants a login: its own page with 200",
        (),
        Proved(
            "tests/contract/test_hub_faults.py::test_permanent_faults_are_reported",
            "{hub} did not answer like a Hub. Open it in a browser: the network may ask for a login, or HF_ENDPOINT may be wrong.",
            "nothing was queued",
        ),
    ),
    Row(
        "The Hub is not ready (408, 425, 429, 500, 502, 503, 504), hangs up, cuts its answer or stalls, twice",
        (),
        Proved("tests/contract/test_hub_faults.py::test_a_listing_survives_temporary_faults", "", "queued"),
    ),
    Row(
        "A proxy wants to know who asks (407)",
        (),
        Proved(
            "tests/unit/test_hub_answers.py::test_each_response_has_one_meaning",
            "The proxy for {hub} asks for a user name and password (407). Set HTTPS_PROXY and HTTP_PROXY to http://name:password@proxy:port, then restart the kernel.",
            "nothing was queued",
        ),
    ),
    Row(
        "The listing states a size that the Hub's redirect belies",
        (_listing(ListedSize(1000)),),
        Fails(
            RemoteChangedError,
            "{file} has changed on the hub since it was listed. Download it again.",
            asks=1,
            again="queue",
        ),
    ),
    Row(
        "The listing states a size that only the storage belies",
        (_listing(ListedSize(-1000)), Answer(NoLinkedHeaders(), "hub", None)),
        Fails(
            HubUnavailableError,
            "The Hub's response for {file} cannot be used (a file of another size); try again later.",
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
        "The Hub closes the connection without an answer, twice",
        (Answer(HangUp(), "hub", 2),),
        Heals("retrying in {n} s (Remote end closed connection without response)"),
    ),
    Row("The Hub does not answer", (Answer(Latency(2_000), "hub"),), Heals("stalled for {n} s")),
    Row(
        "A rate limit by the Hub's own header", (Answer(RateLimited(1), "hub"),), Heals("retrying in {n} s (HTTP 429)")
    ),
    Row(
        "A rate limit by Retry-After, beside a limit that is not reached",
        (Answer(RateLimited(1, told_by="ratelimit-not-exhausted"), "hub"),),
        Heals("retrying in {n} s (HTTP 429)"),
    ),
    Row(
        "A rate limit until a date",
        (Answer(RateLimited(1, told_by="http-date"), "hub"),),
        Heals("retrying in {n} s (HTTP 429)"),
    ),
    Row(
        "Retry-After: 0 is no reason to ask at once",
        (Answer(Status(503, headers={"Retry-After": "0"}), "hub", 2),),
        Heals("retrying in {n} s (HTTP 503)"),
    ),
    Row(
        "The Hub is never ready",
        (Answer(Status(503), "hub", None),),
        Fails(HubUnavailableError, "{hub} failed (503) at {file}; try again later.", can_retry=True),
    ),
    Row(
        "The Hub asks for an hour's rest in the middle of the queue",
        (Answer(RateLimited(3600), "hub", None),),
        Fails(
            RateLimitedError,
            "{hub} limits the number of requests (429). Try again after {clock}.",
            can_retry=True,
            asks=1,
        ),
    ),
    Row(
        "The repository is gone (404)",
        (Answer(Status(404, "RepoNotFound"), "hub", None),),
        Fails(
            RepoNotFoundError,
            f"There is no repository {{repo}} at {{hub}}, or it is private. Check the spelling; for a private repository, {_LOG_IN}.",
            asks=1,
        ),
    ),
    Row(
        "The commit is gone (404)",
        (Answer(Status(404, "RevisionNotFound"), "hub", None),),
        Fails(
            RevisionNotFoundError,
            "{repo} has no commit {commit}: its owner may have rewritten its history. Queue it again to get the current files.",
            asks=1,
        ),
    ),
    Row(
        "A file vanishes between the listing and its turn (404)",
        (Answer(Status(404, "EntryNotFound"), "hub", None, path="{repo}/*-00002-*"),),
        Fails(
            HubError,
            "{repo} has no file 'model-00002-of-00003.gguf' at {commit}; %gguf plan shows the current files.",
            asks=5,
        ),
        files=SHARDS,
    ),
    Row(
        "The repository is gated meanwhile (401)",
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
        "The token is none any more (401)",
        (Answer(Status(401, None, "Invalid credentials in Authorization header"), "hub", None),),
        Fails(InvalidTokenError, f"{{hub}} does not accept the token: {_LOG_IN} again.", asks=1),
    ),
    Row(
        "The repository is disabled meanwhile",
        (Answer(Disabled(), "hub", None),),
        Fails(RepoNotFoundError, "{repo} was disabled by the Hub or its owner; choose another repository.", asks=1),
    ),
    Row(
        "A status that nobody expects (451)",
        (Answer(Status(451), "hub", None),),
        Fails(HubError, "{hub} refused {file} (451): no reason given.", asks=1),
    ),
    Row(
        "Redirects in a circle",
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
        "The network wants a login in the middle of the queue: its own page with 200",
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
        "The redirect tells neither size nor SHA-256, and the storage's ETag looks like one",
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
        "A small file comes by way of the Hub's own cache (307)",
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
        "A hub gives the whole only, without a length, and nobody knows size or SHA-256",
        (),
        Proved("tests/contract/engine/test_faults.py::test_other_hub_implementations_are_supported", "", "complete"),
    ),
    Row(
        "Nobody states a SHA-256",
        (),
        Proved(
            "tests/contract/engine/test_faults.py::test_without_a_digest_the_file_is_stored_as_unverified",
            "not verified: the Hub gives no SHA-256",
            "complete, and never called verified",
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
        "The storage is at another host, over plain HTTP",
        (happenings.STORAGE_BY_NAME,),
        Heals(),
    ),
    Row(
        "A branch's name is never asked for",
        (),
        Proved(
            "tests/contract/engine/test_faults.py::test_every_url_names_the_commit", "", "every URL names the commit"
        ),
    ),
    Row(
        "The token is sent nowhere but to the Hub",
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
        "The connection ends without an answer",
        (Answer(HangUp()),),
        Heals("retrying in {n} s (Remote end closed connection without response)"),
    ),
    Row("No head comes", (Answer(Latency(3_000)),), Heals("stalled for {n} s")),
    Row("Nothing comes after the head", (Answer(Stall()),), Heals("stalled for {n} s")),
    Row(
        "Nothing more comes in the middle of the body",
        (Answer(Stall(700_000)),),
        Heals(kept_bytes=180_000),
        state="the rest comes over another connection",
    ),
    Row("The signed URL has expired (403)", (Answer(ExpiredUrl()),), Heals()),
    Row(
        "The signed URL expires in the middle",
        (Answer(Cut(1_000_000)), Answer(ExpiredUrl(), skip=1)),
        Heals(kept_bytes=1_000_000),
    ),
    Row("The storage refuses its own signature once (403 without a word)", (Answer(Status(403)),), Heals()),
    Row(
        "The storage refuses every signature (403)",
        (Answer(ExpiredUrl(), times=None),),
        Fails(
            HubUnavailableError,
            "The storage of {hub} refused {file} several times (HTTP 403); try again later.",
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
        "The range cannot be satisfied, because the file is another one now (416 with another size)",
        (Answer(Status(416, headers={"Content-Range": "bytes */9"})),),
        Fails(
            RemoteChangedError,
            "The CDN now has a file of another size. Download it again.",
            asks=2,
            again="queue",
        ),
    ),
    Row(
        "A 206 that begins elsewhere",
        (Answer(WrongContentRange(start_shift=7)),),
        Heals("retrying in {n} s (another range than requested)"),
    ),
    Row(
        "A 206 of a file of another size",
        (Answer(WrongContentRange(total_shift=9)),),
        Heals("retrying in {n} s (a range of a file of another size)"),
    ),
    Row("The range is ignored: 200 with the whole", (Answer(IgnoreRange(), times=None),), Heals()),
    Row(
        "A body that is too short for its range",
        (Answer(ShortBody(1000)),),
        Heals("retrying in {n} s (the connection ended early)"),
    ),
    Row("A body that is longer than its range", (Answer(LongBody(1000)),), Heals()),
    Row("Compressed although that was refused", (Answer(Gzipped(is_forced=True)),), Heals()),
    Row("Compressed where it is allowed, which it is not", (Answer(Gzipped()),), Heals()),
    Row("No length: the body ends with the connection", (Answer(NoContentLength(), times=None),), Heals()),
    Row("No length: the body comes in chunks", (Answer(NoContentLength("chunked"), times=None),), Heals()),
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
        "The storage redirects in a circle",
        (Answer(Redirect(), times=None),),
        Fails(
            HubUnavailableError,
            "The storage of {hub} redirects {file} too many times. Try again later.",
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
        "The network wants a login before the storage: its own page with 200",
        (Answer(Cut(1_000_000)), Answer(CaptivePortal(), skip=1, times=None)),
        Heals("retrying in {n} s (a file of another size)", kept_bytes=1_000_000),
    ),
)

LINES = (
    Row(
        "Nobody knows the hub's name",
        (),
        Proved(
            "tests/contract/faults/test_hub_lines.py::test_an_unresolvable_hub_name_is_reported",
            "{host} cannot be reached; check the connection, HF_ENDPOINT and the proxy.",
            "nothing was queued",
        ),
    ),
    Row(
        "The hub's certificate has expired, is for another name, or is signed by itself",
        (),
        Proved(
            "tests/contract/faults/test_hub_lines.py::test_a_rejected_hub_certificate_is_reported_with_the_reason",
            "The certificate of {host} has expired or is not valid yet. Check this computer's clock. If it is right, try again when the certificate has been renewed.",
            "nothing was queued",
        ),
    ),
    Row(
        "Without a network some are cancelled and some wait",
        (),
        Proved(
            "tests/contract/test_manager_lifecycle.py::test_without_a_network_the_whole_queue_waits_and_resumes_automatically",
            "waiting for the network since {clock}",
            "those that wait complete, nothing failed",
        ),
    ),
    Row(
        "The network stays away for longer than a day (`GGLIB_NETWORK_WAIT_S`)",
        (),
        Proved(
            "tests/contract/engine/test_faults.py::test_a_network_outage_beyond_the_limit_fails_the_download",
            "No network since {clock}. Downloaded data is kept. Retry when the network is back.",
            "failed; `retry` goes on",
        ),
    ),
    Row(
        "Every connection brings 3 KB a second",
        (),
        Proved(
            "tests/contract/engine/test_lines.py::test_a_slow_connection_is_not_treated_as_stalled",
            "",
            "as long as bytes come nothing is given up",
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
    Row("The line to the storage lets nothing through", (OnLine(Mode.SILENT),), Heals("stalled for {n} s")),
    Row(
        "The line to the storage breaks in the middle",
        (OnLine(Mode.RESET),),
        Heals("retrying in {n} s ({reason})"),
        after_bytes=800_000,
    ),
    Row(
        "The line to the storage falls silent in the middle",
        (OnLine(Mode.SILENT),),
        Heals("stalled for {n} s"),
        after_bytes=800_000,
    ),
    Row(
        "One connection slows down to ten bytes a second",
        (OnLine(Mode.TRICKLE_ONE),),
        Heals(),
        after_bytes=800_000,
        state="others take over what it holds",
    ),
    Row(
        "Every connection slows down to ten bytes a second",
        (happenings.TRICKLE,),
        Heals(),
        after_bytes=800_000,
        state="they are made anew, and nothing is given up",
        is_slow=True,
    ),
    Row(
        "The line to the hub refuses connections",
        (OnLine(Mode.REFUSED, "both"),),
        Refused(NetworkError, "{host} cannot be reached; check the connection, HF_ENDPOINT and the proxy."),
        is_slow=True,
    ),
    Row(
        "There is no network any more",
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
        "The storage's certificate is signed by itself",
        (happenings.tls(lambda world: world.other_company.server(), "a certificate signed by itself"),),
        Fails(
            CertificateError,
            "The certificate of localhost:{n} is not trusted. If a proxy inspects TLS, set SSL_CERT_FILE or REQUESTS_CA_BUNDLE to its certificate authority and restart the kernel. Otherwise check the computer's clock.",
            asks=1,
        ),
    ),
    Row(
        "The storage's certificate is of an authority that SSL_CERT_FILE names",
        (happenings.tls(lambda world: world.company.server(), "a certificate of the company's own authority"),),
        Heals(),
    ),
    Row(
        "Nobody knows the storage's name",
        (Answer(StorageAt("http://storage.invalid"), "hub", None),),
        Fails(
            NetworkError,
            "The connection for {file} keeps failing ({reason}); check the network, then retry.",
            can_retry=True,
        ),
    ),
    Row(
        "The storage is refused for ever, and the hub answers",
        (OnLine(Mode.REFUSED),),
        Fails(
            NetworkError,
            "The connection for {file} keeps failing (Connection refused); check the network, then retry.",
            can_retry=True,
        ),
    ),
    Row(
        "The storage is silent for ever, and the hub answers",
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
        "There is no room for it",
        (_listing(ListedSize(10**16)),),
        Fails(
            DiskFullError,
            "The disk of {folder} is full: {size} more are needed, {size} are free. Free some space, then retry. Downloaded data is kept.",
            asks=0,
            again="queue",
        ),
    ),
    Row(
        "The disk fills up in the middle",
        (),
        Proved(
            "tests/contract/engine/test_disk.py::test_a_disk_that_fills_up_keeps_downloaded_data_and_reports_the_missing_space",
            "The disk of {folder} is full: {size} more are needed, {size} are free. Free some space, then retry. Downloaded data is kept.",
            "failed; Downloaded data is kept, and `retry` goes on with it",
        ),
    ),
    Row(
        "A quota is used up",
        (),
        Proved(
            "tests/contract/engine/test_disk.py::test_an_exhausted_quota_counts_as_a_full_disk",
            "The disk of {folder} is full: {size} more are needed, {size} are free. Free some space, then retry. Downloaded data is kept.",
            "failed; Downloaded data is kept, and `retry` goes on with it",
        ),
    ),
    Row(
        "The filesystem takes no file of that size",
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
        "The permission is lost in the middle",
        (happenings.READ_ONLY,),
        Fails(StorageError, "{target}.part cannot be written: Permission denied. Check the folder, then retry."),
        after_bytes=800_000,
    ),
    Row(
        "A file stands where the folder should",
        (happenings.FILE_FOR_FOLDER,),
        Fails(StorageError, "{target} cannot be written: Not a directory. Check the folder, then retry."),
    ),
    Row(
        "A folder stands at the target",
        (happenings.FOLDER_AT_TARGET,),
        Fails(StorageError, "{target} is not a file. Move it, then retry."),
    ),
    Row(
        "A folder stands where the partial file should",
        (happenings.FOLDER_AT_PART,),
        Fails(StorageError, "{target}.part cannot be written: Is a directory. Check the folder, then retry."),
    ),
    Row(
        "A folder stands where the journal should",
        (happenings.FOLDER_AT_JOURNAL,),
        Fails(
            StorageError,
            "{target}.part.journal{reason} cannot be written: Is a directory. Check the folder, then retry.",
        ),
    ),
    Row(
        "Another file stands at the target",
        (happenings.OTHER_FILE,),
        Fails(
            StorageError,
            "Another file is stored at {target}. Move it, or download again with --force to replace it.",
        ),
    ),
    Row("The very file stands there already", (happenings.SAME_FILE,), Heals(), state="no byte was fetched"),
    Row(
        "The folder is removed in the middle",
        (happenings.FOLDER_REMOVED,),
        Heals(begins_anew=True),
        after_bytes=800_000,
    ),
    Row(
        "The partial file is deleted in the middle",
        (happenings.PART_DELETED,),
        Heals(begins_anew=True),
        after_bytes=800_000,
    ),
    Row(
        "Another file is put in the partial one's place in the middle",
        (happenings.PART_REPLACED,),
        Heals(begins_anew=True),
        after_bytes=800_000,
    ),
)

WHAT_LIES_THERE = (
    Row(
        "Somebody has edited the partial file", (happenings.PART_EDITED,), Heals(begins_anew=True), after_bytes=800_000
    ),
    Row(
        "Somebody has cut the partial file short", (happenings.PART_CUT,), Heals(begins_anew=True), after_bytes=800_000
    ),
    Row("Somebody has deleted the partial file", (happenings.PART_GONE,), Heals(begins_anew=True), after_bytes=800_000),
    Row("The journal is torn", (happenings.JOURNAL_TORN,), Heals(begins_anew=True), after_bytes=800_000),
    Row(
        "A bit of the journal has turned over",
        (happenings.JOURNAL_FLIPPED,),
        Heals(begins_anew=True),
        after_bytes=800_000,
    ),
    Row("The journal is missing", (happenings.JOURNAL_GONE,), Heals(begins_anew=True), after_bytes=800_000),
    Row(
        "200 journals, torn, stale or with bits turned over",
        (),
        Proved(
            "tests/contract/faults/test_journals.py::test_any_journal_leads_to_the_right_file",
            "",
            "the right file, or none",
        ),
    ),
    Row(
        "A lease of an earlier boot",
        (happenings.LEASE_OF_EARLIER_BOOT,),
        Heals(),
        state="nobody waits",
        look=happenings.Within(3 * SHORT.lease_s),
    ),
    Row("A lease of a process that has stopped", (happenings.LEASE_OF_THE_DEAD,), Heals(), state="nobody waits"),
    Row("An empty lease", (happenings.LEASE_EMPTY,), Heals(), state="nobody is said to download it"),
    Row("A lease of nonsense", (happenings.LEASE_GARBLED,), Heals(), state="nobody is said to download it"),
    Row(
        "A lease of another host that is silent",
        (happenings.LEASE_OF_ANOTHER_HOST,),
        Heals("another process is downloading this file"),
        files=SHARDS,
        state="waited for once, for all files together",
        look=happenings.ONCE_FOR_ALL_FILES,
    ),
    Row(
        "A folder stands where the lease should",
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
        "The download process stands still for a while",
        (happenings.ENGINE_STOPPED,),
        Heals("the download process does not answer ({n} s)"),
        after_bytes=800_000,
        is_slow=True,
    ),
    Row(
        "It stands still, and a cancel waits for it",
        (),
        Proved(
            "tests/contract/test_manager_lifecycle.py::test_a_cancel_never_confirmed_by_a_stopped_engine_does_not_block_the_next_download",
            "the download process does not answer ({n} s)",
            "it is killed and replaced, the next download runs",
        ),
    ),
    Row(
        "It stood still, another process took the file over, and it goes on",
        (),
        Proved(
            "tests/contract/engine/test_sharing.py::test_a_suspended_engine_writes_nothing_into_a_file_it_lost",
            "another process is downloading this file",
            "it writes nothing more and takes the other's file",
        ),
    ),
    Row(
        "Another process downloads the same file, and dies",
        (),
        Proved(
            "tests/contract/engine/test_sharing.py::test_a_second_process_takes_over_when_the_first_dies",
            "another process is downloading this file",
            "taken over, what was there is kept",
        ),
    ),
    Row(
        "The kernel is killed",
        (),
        Proved(
            "tests/notebook/test_kernel_kills.py::test_after_a_kill_of_the_kernel_the_engine_is_gone_within_two_seconds",
            "",
            "the download process ends within two seconds",
        ),
    ),
    Row(
        "The kernel is killed, and another one goes on",
        (),
        Proved(
            "tests/notebook/test_kernel_kills.py::test_the_next_kernel_goes_on_where_a_killed_one_stopped",
            "",
            "complete, at most the last seconds came twice",
        ),
    ),
    Row(
        "The machine sleeps for an hour",
        (),
        Proved(
            "tests/contract/faults/test_sleep.py::test_after_an_hours_sleep_only_missing_bytes_are_downloaded",
            "retrying in {n} s (the connection ended early)",
            "complete, nothing came twice",
        ),
    ),
    Row(
        "Kernel and download process stand still together for an hour",
        (),
        Proved(
            "tests/unit/engine/test_watchdog.py::test_time_the_watchdog_slept_does_not_count_as_silence",
            "",
            "the download process is not taken for a silent one",
        ),
    ),
    Row("The clock is set back by an hour", (happenings.CLOCK_BACK,), Heals(), after_bytes=800_000),
    Row("The clock is set ahead by two hours", (happenings.CLOCK_AHEAD,), Heals(), after_bytes=800_000),
    Row(
        "Every signed URL becomes invalid in the middle",
        (happenings.URLS_EXPIRED, happenings.CONNECTIONS_DROPPED),
        Heals(),
        after_bytes=800_000,
    ),
)

TOGETHER = (
    Row(
        "All of these by chance, while somebody cancels, pauses, moves and retries, and kernels and download processes are killed",
        (),
        Proved(
            "tests/endurance/test_short_run.py::test_through_random_faults_operations_and_kills_every_digest_is_right",
            "",
            "every digest is right, or its row has the right error; no process, lease, thread or file is left, and no memory kept "
            "(`make endurance` for long)",
        ),
    ),
)

GROUPS: Mapping[str, tuple[Row, ...]] = {
    "What the Hub lists": THE_LISTING,
    "Asking the Hub where a file is": ASKING_WHERE_A_FILE_IS,
    "Where else a file may be": OTHER_PLACES,
    "Fetching from the storage": FETCHING,
    "The line": LINES,
    "The disk": THE_DISK,
    "What lies there from an earlier run": WHAT_LIES_THERE,
    "Processes and clocks": PROCESSES,
    "All of them together": TOGETHER,
}
