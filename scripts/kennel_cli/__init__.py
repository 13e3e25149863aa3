"""Drive Kennel from a user's machine."""
