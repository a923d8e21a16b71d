"""Scores of features, one a file: pure functions, in float64, without a seed that is not named."""
