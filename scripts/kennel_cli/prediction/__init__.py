"""What `ImagePredictor` is made of: pictures on their way to a model, and what comes back."""
