"""What a rule set and a host do to one packet, in plain Python.

Written to be read next to `symbolic`, which says the same in formulas.  The two share no code: where
they disagree, one of them is wrong, and the tests say so.
"""
