"""Use of several traces and of a trace that is still being written: votes, stopping rules, adapters to engines.

Nothing here is imported for you: votes, margins and thresholds need numpy and scipy, an adapter what its engine needs.
"""
