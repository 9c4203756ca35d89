"""The command `python -m ict_ref.launch`: train, sample and score, here or as a SLURM job."""
