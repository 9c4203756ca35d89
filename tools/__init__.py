"""Programs that write files of this repository, or measure it."""
