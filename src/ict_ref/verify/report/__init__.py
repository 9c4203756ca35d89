"""The report of a verification: one finding for each cause, as text, documents and data."""
