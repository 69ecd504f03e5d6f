"""Counterexamples as files: all that a replay needs, written as JSON and read back as the same data."""
