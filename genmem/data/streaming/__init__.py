"""From shards to batches: the order, the reader, threads that work ahead, sets that lie elsewhere."""
