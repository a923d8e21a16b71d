"""Sweeps: a grid of runs planned from one recipe, run, scored, and put in one table and one plot."""
