"""The engine on the hosts of a Dask cluster: the same commands and reports, one engine process per host.

Imports go down only: connecting → dask_engine → host_link → worker_side | dispatcher.

connecting    from the setting `engine` to a Dask client
dask_engine   what the manager uses: finds the hosts, keeps a link to each, passes commands and reports on
host_link     one host: a thread that sends, a topic on which its reports come
worker_side   runs inside a worker: owns the engine process of its host, checks paths, ends with its client
dispatcher    decides which host runs which attempt; pure, and the only one that does not import `distributed`
"""
