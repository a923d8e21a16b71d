"""Rows that are added to a bank, and banks that others published."""
