"""Files of runs and of networks: writing and reading them, and loading a model from either."""
