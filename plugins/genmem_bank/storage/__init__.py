"""A bank on disk: its card, its files of tensors, its rows across segments."""
