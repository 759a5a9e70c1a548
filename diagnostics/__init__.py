"""Look inside vision transformers."""
