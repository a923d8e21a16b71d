"""Runs side by side: scores, spread, cost and what differs, as a table and as one page of HTML."""
