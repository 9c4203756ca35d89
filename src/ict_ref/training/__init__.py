"""Training: noise levels, sampled noise, loss, microbatches, optimizer, a single update, and the loop over updates."""
