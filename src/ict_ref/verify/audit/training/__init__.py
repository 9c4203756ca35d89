"""The audit of a training loop: EMA, curriculum, optimizer, resume, and the number of updates."""
