"""The command `python -m ict_ref.prepare`: turn a published data set into one array."""
