"""Training: one loop, one owner of the optimizer step, one folder per run."""
