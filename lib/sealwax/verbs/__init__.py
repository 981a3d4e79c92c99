"""What people call: each verb captures what it was given and hands it to the pipeline."""
