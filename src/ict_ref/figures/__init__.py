"""The paper's figures, each from its formulas or from an experiment that takes minutes: `python -m ict_ref.figures`.

`panel` is what a figure is made of: curves, which become a PNG, an SVG and the CSV behind them. `sheet` lays out
images.
"""
