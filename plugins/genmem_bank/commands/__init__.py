"""`genmem bank …`. Nothing heavy is imported before a command runs."""
