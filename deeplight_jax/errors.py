"""Errors a user can act on: each message names the file, line or field, and the remedy.

The command line prints these as one line; every other exception is a bug and keeps its traceback.
"""


class DeeplightError(ValueError):
    """A mistake in what the user gave us, worded for the user."""


class ConfigError(DeeplightError):
    """A configuration key, type or range is wrong."""


class DataError(DeeplightError):
    """Raw rows or prepared arrays are missing, malformed or damaged."""


class RunError(DeeplightError):
    """A run directory or a checkpoint in it is missing, damaged or belongs to another run."""


class MaskError(DeeplightError):
    """Mask trees do not fit each other or a model, or a file of masks is missing or damaged."""
