"""What is asked of many images: probing, scoring, thresholds, agreement, stability, location, purification."""
