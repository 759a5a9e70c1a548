"""Figures and tables of our own, beside those of the papers."""
