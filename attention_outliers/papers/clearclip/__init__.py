"""ClearCLIP (Lan et al., ECCV 2024): tables, figures and claims."""
