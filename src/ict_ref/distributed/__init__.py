"""Several processes of one run: their process group, and the launcher that starts them on one machine."""
