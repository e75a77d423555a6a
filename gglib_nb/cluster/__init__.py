"""The engine on the hosts of a Dask cluster: the same commands and reports, one engine process per host.

Imports go down only: dask_engine → host_link → worker_side → dispatcher → placement | folder.

dask_engine   what the manager uses: finds the hosts, keeps a link to each, passes commands and reports on
host_link     one host: a thread that sends, a topic on which its reports come
worker_side   runs inside a worker: owns the engine process of its host, checks paths, ends with its client
dispatcher    which host runs which attempt; pure
placement     how a host is chosen, and how limits are shared; pure
folder        whether two hosts see the same models folder

Only `dask_engine`, `host_link` and `worker_side` may import `distributed`, and nothing above does: `gglib_nb.manager` imports
`dask_engine` when a setting asks for it.
"""
