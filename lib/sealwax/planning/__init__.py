"""Deciding what an operation will do: pure functions from observations to plans."""
