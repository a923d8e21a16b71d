"""Scores: pure functions over features, in float64, and the protocol that every score is stored with."""
