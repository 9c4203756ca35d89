"""The audit of a training step from outside, by the calls that it makes of a network that records them."""
