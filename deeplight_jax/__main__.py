"""The `deeplight` command as a process of its own; `python -m deeplight_jax` is the same."""

import os
import sys
from typing import NoReturn

from deeplight_jax.training.stopping import deferred


def program() -> NoReturn:
    """Run the command line and exit; a signal that has ended the command ends the process at once, since
    Python's own way out would take from XLA's threads what they still compile with, a segmentation fault."""
    try:
        with deferred():
            from deeplight_jax.cli import run_command
        status, ended = run_command(None)
    except KeyboardInterrupt:  # before the command has begun
        sys.exit(130)
    if ended:
        sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    program()
