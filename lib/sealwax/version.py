"""The version of sealwax."""

__version__ = "0.1.0"
