"""From packed images to a model folder."""
