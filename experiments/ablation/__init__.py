"""Ablations: variants of a recipe over settings and seeds, their summary and their curves."""
