"""Data sets as training reads them, and images as files."""
