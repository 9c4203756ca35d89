"""Files of a run and of a network: writing them, reading them, and loading a model from either."""
