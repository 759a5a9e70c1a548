"""CLIP alone, 2024-2026: what has been printed for methods without a second backbone, in one table."""
