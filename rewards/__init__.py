"""What a completion is worth: parsing, verifying and rewarding it. Never imports torch, trl or transformers."""
