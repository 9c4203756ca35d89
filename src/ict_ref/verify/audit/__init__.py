"""Audits of code that has no formulas to call: what it does to a network that records its calls."""
