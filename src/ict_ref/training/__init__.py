"""Training: loss, microbatches, optimizer, one update, and the loop over updates."""
