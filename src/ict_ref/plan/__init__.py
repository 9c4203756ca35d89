"""The plan of a training run, counted without data or a GPU: memory, FLOP, time, money in GPU-days, and scaling."""
