"""The kernel's side of an endurance run: the manager, and two functions that answer in JSON."""

SETUP = '''
%load_ext gglib_nb
import json, threading
import gglib_nb
from gglib_nb import GglibError

manager = gglib_nb.get_manager()
asked = {}

def ask(repo_id):
    """Queue a repository, without waiting."""
    asked[repo_id] = manager.submit(manager.sync.queue_smart, repo_id)

def act(verb, *arguments):
    """One operation of the port; empty, or the name of the error it ended with."""
    try:
        getattr(manager.sync, verb)(*arguments)
    except GglibError as error:
        return type(error).__name__
    return ""

def state():
    """Every download that the queue knows, and what became of those that were asked for."""
    snapshot = manager.snapshot
    ended = [*snapshot.recent_completed, *snapshot.recent_failures, *snapshot.recent_cancelled]
    rows = [
        [str(one.id), one.repo_id, one.status.value, one.error and type(one.error).__name__, one.can_retry, str(one.error or "")]
        for one in [*snapshot.items, *ended]
    ]
    refused = {
        repo_id: type(future.exception()).__name__
        for repo_id, future in asked.items() if future.done() and not future.cancelled() and future.exception()
    }
    waiting = [repo_id for repo_id, future in asked.items() if not future.done()]
    return json.dumps({"rows": rows, "refused": refused, "waiting": waiting, "engine": manager.engine_pid,
                       "threads": sorted(one.name for one in threading.enumerate() if one.name.startswith("gglib"))})
'''
