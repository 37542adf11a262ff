"""A run: its plan, state, step, loop, checkpoints and result."""
