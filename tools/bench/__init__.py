"""The benchmark: how long the work takes, how much memory it needs, and how many operations it does."""
