"""Find the attention outliers of a vision transformer, measure and purify them, and segment with what is left."""
