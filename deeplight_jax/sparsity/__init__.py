"""Schedules, criteria, exact thresholds, masks and the optax transform; knows no Flax."""
