"""Moves bytes, in a process of its own, and nothing else: no queue, no policy, no catalog.

The map is in ARCHITECTURE.md. `client` starts the process from the kernel; in it `main` takes commands, `transfer` is one
thread with one inbox of events, `file` is the only owner of one file's state, `connections` fetch.
"""
