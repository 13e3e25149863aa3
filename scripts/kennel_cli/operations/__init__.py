"""Operate endpoints on AWS: scale them, watch them, and say what runs and what it costs."""
