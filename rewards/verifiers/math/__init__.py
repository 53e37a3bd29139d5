"""Whether a mathematical answer equals its gold: numbers, LaTeX, sets, intervals, tuples and matrices."""
