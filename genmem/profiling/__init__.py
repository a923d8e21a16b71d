"""Costs one can see: parameters, multiply-adds, activation memory, bytes of memories."""
