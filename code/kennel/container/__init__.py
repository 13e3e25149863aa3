"""The one place that knows what SageMaker asks of a container: paths, variables, signals, the failure file."""
