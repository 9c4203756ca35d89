"""SLURM jobs: their options, submission, the worker on each node, and following a job."""
