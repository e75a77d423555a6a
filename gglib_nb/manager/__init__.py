"""The async port over the queue thread, and its synchronous twins."""
