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


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message that lists the known names already: the nearest one, "" if none is near.

    Of dotted names those are nearest that differ in their sections alone: `train.seed` is near `seed`.
    """
    names = sorted(known)
    elsewhere = [n for n in names if "." in name + n and n.rpartition(".")[2] == name.rpartition(".")[2]]
    close = elsewhere or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
