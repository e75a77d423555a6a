"""Moves bytes in a process of its own; holds both ends of the pipe."""
