"""Runtimes that turn normalized images into probabilities; one file a runtime, all with the same interface."""
