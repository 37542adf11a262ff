"""Exact ROC AUC, log loss, calibration; what a model costs and what in it is dead."""
