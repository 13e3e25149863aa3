"""Search for good hyperparameters: the space, the strategies, the rules that end a trial early, the summary."""
