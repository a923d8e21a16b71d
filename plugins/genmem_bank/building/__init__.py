"""`genmem bank build`: from features to a bank, in two streaming passes."""
