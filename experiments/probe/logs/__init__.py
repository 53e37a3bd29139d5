"""What evaluation harnesses leave on disk, read as it is: lm-eval, inspect_ai and lighteval.

``sample`` is what the three have in common, one module a harness turns its files into it, and ``read`` recognises which
it is and makes the records table. ``scores`` writes what inspect_ai takes back.
"""
