"""Curves: measurements over layers, ROC curves, scores over a setting."""
