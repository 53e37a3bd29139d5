"""The verbs of ``candor``: one file a verb, its options beside its body."""
