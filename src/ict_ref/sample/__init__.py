"""Images from a trained model: `python -m ict_ref.sample`.

`images` computes samples, `parts` stores finished batches for resuming, and `make` distributes batches over processes.
"""
