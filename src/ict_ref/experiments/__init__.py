"""Experiments with the training engine on data with known answers: `python -m ict_ref.experiments`.

`analytic_datasets` has data with a known consistency function, `runs` has shared functions, and each other module
answers one question. docs/experiments.md lists the results.
"""
