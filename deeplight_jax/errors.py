"""Errors a user can act on: each message names the file, line or field, and the remedy.

The command line prints these as one line; every other exception is a bug and keeps its traceback.
"""

import difflib
from collections.abc import Iterable


class DeeplightError(ValueError):
    """A mistake in what the user gave us, worded for the user."""


class ConfigError(DeeplightError):
    """A configuration key, type or range is wrong."""


class DataError(DeeplightError):
    """Raw rows or prepared arrays are missing, malformed or damaged."""


class RunError(DeeplightError):
    """A run directory or a checkpoint in it is missing, damaged or belongs to another run."""


class ArtifactError(DeeplightError):
    """A model cannot be exported, or its artifact is missing, damaged or of another format."""


class MaskError(DeeplightError):
    """Mask trees do not fit each other or a model, or a file of masks is missing or damaged."""


class ReportError(DeeplightError):
    """A report has nothing to show, lacks what it needs, or cannot be written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    return nearest(name, names) or f"; known: {', '.join(names)}"


def did_you_mean_key(key: str, known: Iterable[str]) -> str:
    """`did_you_mean` of dotted keys: first those of other sections, as `seed` of `train.seed`."""
    keys = sorted(known)
    elsewhere = [repr(k) for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]]
    return f"; did you mean {' or '.join(elsewhere)}?" if elsewhere else did_you_mean(key, keys)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message that lists the known names already: the nearest one, "" if none is near."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
