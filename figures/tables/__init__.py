"""Figures of tables: detectors against thresholds, agreement, bars with intervals."""
