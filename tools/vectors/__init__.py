"""Test vectors for implementations of iCT's formulas: expected values by mpmath, with known deviations."""
