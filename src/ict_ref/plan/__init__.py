"""The plan of a training run, counted without data or a GPU: memory, FLOP, time and scaling."""
