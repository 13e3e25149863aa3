"""Runtimes that turn normalized images into probabilities; one file a runtime, all with the same interface."""

from kennel.engines.engine import Engine
from kennel.engines.torch_engine import TorchEngine

__all__ = ["Engine", "TorchEngine"]
