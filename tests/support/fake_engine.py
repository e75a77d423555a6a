"""A fake engine for the random test of the queue: it downloads nothing, and fails at an invalid command."""


class FakeEngine:
    """Checks that each attempt is started once, stopped at most once, and answered once."""

    def __init__(self):
        self.running = {}
        self.stop_requested = set()
        self.answered = {}

    def start(self, attempt, plan):
        assert attempt not in self.running
        assert attempt not in self.answered
        for other in self.running.values():
            assert not other.targets & plan.targets
        self.running[attempt] = plan

    def stop(self, attempt):
        assert attempt in self.running
        assert attempt not in self.stop_requested
        self.stop_requested.add(attempt)

    def discard(self, targets):
        for plan in self.running.values():
            assert not plan.targets & set(targets)

    def answer(self, attempt):
        self.answered[attempt] = self.running.pop(attempt)
        self.stop_requested.discard(attempt)

    def die(self):
        for attempt in list(self.running):
            self.answer(attempt)
