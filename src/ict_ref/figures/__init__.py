"""The paper's figures, each from formulas or from an experiment of about a minute: `python -m ict_ref.figures`.

`analytic` and `ablations` make figures, `catalogue` lists them, and `samples` writes sheets of samples.
"""
