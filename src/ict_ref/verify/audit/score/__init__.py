"""An audit of the code of a score: FID, KID, precision and recall."""
