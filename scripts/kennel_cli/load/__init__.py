"""The load test of an endpoint: `kennel bench-endpoint`."""
