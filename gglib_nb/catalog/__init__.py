"""The models database: what stands on the disk and where it came from."""
