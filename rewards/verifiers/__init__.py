"""Whether an answer is right: verifiers of numbers, LaTeX mathematics, choices, text and end states."""
