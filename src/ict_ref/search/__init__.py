"""Which noise level the second step should have: `python -m ict_ref.search`, CM's ternary search by scores of samples.

`scored` keeps what is known, `find` looks for the best.
"""
