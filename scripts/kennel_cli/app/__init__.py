"""The page to drop photos on: a small server on the user's machine that asks a model on their behalf."""
