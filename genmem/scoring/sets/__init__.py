"""Sets of pictures that can be scored: arrays, folders, .npz files, tar shards, prepared sets, runs."""
