"""Embedding table, interactions, deep net, cross, CIN, attention; each declares what is prunable."""
