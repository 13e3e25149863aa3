"""Train and serve image classifiers in one container image that follows Amazon SageMaker's contract."""

__version__ = "0.1.0"
