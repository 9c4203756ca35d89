"""How good samples are: `judge` scores those of a run by held-out images."""
