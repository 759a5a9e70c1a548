"""Encoders that methods share."""
