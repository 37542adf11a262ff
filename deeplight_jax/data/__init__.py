"""Raw rows to vocabularies, arrays and seekable batches; never imports JAX."""
