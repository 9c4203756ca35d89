"""The command `python -m ict_ref.prepare`, which converts a published data set into one array."""
