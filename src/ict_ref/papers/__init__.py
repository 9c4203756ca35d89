"""The equations of iCT's successors as their papers print them: a module for each paper, `ict_ref.paper` being iCT's.

Use `ict_ref.formulas`, which has the same functions in a stable, checked form. Each module is read beside its paper:
it has that paper's symbols, order and numbers, and imports nothing from this package. Numbers are float64.
"""
