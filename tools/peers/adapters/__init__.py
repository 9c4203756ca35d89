"""Adapters: each gives the functions of one public code the names of `ict_ref.formulas`."""
