"""The command `kennel tune`: what to search, how to start it, how to watch it."""
