"""Reads a hub through huggingface_hub: listings, search, ranges for headers."""
