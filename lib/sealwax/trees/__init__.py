"""Pytrees as named leaves: flattening, records, rebuilding, matching and merging. Pure."""
