"""Words as unit vectors: vocabularies, prompt templates, text towers and class embeddings."""
