"""The judge of the reader: rules that others wrote, and what the real tools say of them.

`python -m tests.corpus` prints its tables.
"""
