"""Search for the noise level of the second sampling step: `python -m ict_ref.search`.

`find` applies the ternary search of CM to scores of samples, and `scored` stores every score for resuming.
"""
