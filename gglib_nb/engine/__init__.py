"""Moves bytes, in a process of its own, and nothing else: no queue, no policy, no catalog.

The kernel's end
    client       starts the process, sends commands, hands events on
    protocol     the commands and events, shared by both ends
    present, leftovers   what lies on the disk, for those who only want to know
The process
    __main__, worker, outbox   commands in, attempts run, events out
    transfer     one attempt: a coordinator thread, its turns and its end
    course       what happens to the files, stage by stage; `mailbox` brings everything back to the coordinator
    target       the state of one file; `prepare`, `finish`: before its first byte and after its last
    dispatch, crew   ranges to connections; connections hired, watched, replaced
    books        leases beaten, journals written
    notices, policy   what is told; what follows from a failure
Bytes
    web, resolve, connection, fetch   who is asked, where a file is, one exchange, one connection's thread
    partial, journal, lease, place, room   the partial file and what keeps it true
    follow, facts   the digest on the way, the GGUF header at the end
Arithmetic, without files, sockets, threads or clock
    ranges, adapt, digest, retry; `throttle` and `budget` with a thin lock around theirs

Who may touch what: the coordinator owns all state of its attempt. A connection thread writes only under its
job's lock and only until that is revoked; the digest is fed only under the follower's lock.
"""
