"""What a person sees: the magic, the panel, and the same as text."""
