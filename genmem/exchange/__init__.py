"""Weights to and from other projects' files."""
