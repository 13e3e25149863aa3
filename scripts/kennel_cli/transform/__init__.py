"""Batch transform: a model asked about all pictures of a folder, with a table of its answers."""
