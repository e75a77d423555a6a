"""The models database: which models are on the disk and where they came from."""
