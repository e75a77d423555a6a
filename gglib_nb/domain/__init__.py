"""Values and rules of the domain; no I/O, no clock."""
