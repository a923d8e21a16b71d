"""Maps to a bank's rows: from another encoder's features, and from text (`genmem bank map`)."""
