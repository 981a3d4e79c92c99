"""Checkpointables: which handler saves and loads each item of a checkpoint. Pure."""
