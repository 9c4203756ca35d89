"""Several processes of one run: their group, and the launcher that starts them on one machine."""
