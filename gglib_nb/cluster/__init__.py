"""The engine on the hosts of a Dask cluster: the same commands, the same reports, one engine process a host.

Imports go down only: dask_engine → host_link → worker_side → dispatcher → placement | folder.

dask_engine   what the manager holds: finds the hosts, keeps a link to each, hands commands and reports over
host_link     one host: a thread that sends, a topic on which its reports come
worker_side   what runs inside a worker: owns the engine process of its host, checks paths, ends with its client
dispatcher    which host runs which attempt; pure
placement     the rule by which a host is chosen, and how limits are shared; pure
folder        whether two hosts see the same models folder

Only `dask_engine`, `host_link` and `worker_side` may know `distributed`, and nothing above imports it: `gglib_nb.manager` imports
`dask_engine` when a setting asks for it.
"""
