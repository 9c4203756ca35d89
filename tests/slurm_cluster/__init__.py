"""Tests on a real SLURM: jobs on several nodes, requeued, crashed and resumed."""
