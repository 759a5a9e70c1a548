"""Timings against the stock forward: ratios measured in one run, never asserted."""
