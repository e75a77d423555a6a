"""What is on the disk: partial file, journal, lease, hasher, space, the final rename. Knows no network."""
