"""Measures sealwax beside Orbax v1 and beside the raw limit of the machine."""
