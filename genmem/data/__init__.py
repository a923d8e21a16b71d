"""Prepared data sets: shards with a manifest, read in an order that is a pure function."""
