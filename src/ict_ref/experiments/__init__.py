"""Experiments in which the training engine learns what is known, each seconds long: `python -m ict_ref.experiments`.

`known` has data whose consistency function is known, `runs` what all experiments share; then one module per question.
What they find stands in docs/experiments.md.
"""
