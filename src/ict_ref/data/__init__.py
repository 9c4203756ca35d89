"""Image datasets: prepared folders, the order of training, and image files."""
