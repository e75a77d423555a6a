"""Downloads, hashes and writes files in a separate process. Contains no queue, no policy and no catalog.

ARCHITECTURE.md has the map. In the kernel, `client` starts the process. In the process, `main` reads commands,
`transfer` is one thread with one inbox of events, `file` owns the state of one file, and `connections` fetch bytes.
"""
