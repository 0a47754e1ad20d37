"""The cases: N1 to N13, a file each, and what they share."""
