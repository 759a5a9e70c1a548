"""From dense features to scores against words."""
