"""The user interface: the magic, the panel, and their output as text."""
