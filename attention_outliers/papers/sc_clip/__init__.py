"""SC-CLIP (Bai et al. 2024): tables, figures and claims."""
