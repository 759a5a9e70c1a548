"""Maps over the grid of patches, and other fields of color."""
