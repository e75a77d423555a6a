"""Moves bytes, in a process of its own, and nothing else: no queue, no policy, no catalog.

Imports go down only: process → transfer → http | storage → reports → protocol | timeouts.

process     `client` starts the process from the kernel; in it `main` and `commands` (commands in), `outbox` (events out)
transfer    `attempt` and `coordinator` (one thread, its turns), `target` and `stages`, `scheduler`, `connection_pool`, `retry`
http        `session` (token, TLS, proxies), `resolve`, `connection`, `answers`
storage     `partial_file`, `journal`, `lease`, `hasher`, `disk_space`, `finalizer`; `on_disk` and `leftovers` for the kernel
reports     what is said of an engine beside its own events: that it was lost, on which host it is
protocol    commands and events, the same at both ends

Who may touch what: the coordinator's thread owns all state of its attempt. A connection's thread writes only under its
request's lock and only until that is revoked; the digest is fed only under the hasher's lock.
"""
