"""A bank as the memory of a network: rows drawn, decoded, masked, attended to."""
