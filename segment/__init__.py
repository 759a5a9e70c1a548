"""Pictures and words in, label maps out."""
