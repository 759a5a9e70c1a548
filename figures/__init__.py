"""Measurements and arrays in, matplotlib figures out."""
