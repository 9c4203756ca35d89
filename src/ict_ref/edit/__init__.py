"""A trained model changes given images, for which it was never trained (CM, Algorithm 4): `python -m ict_ref.edit`.

`inputs` reads images, labels and masks, `tasks` says what is kept of an image and what is made, `between` goes from one
sample to another, `work` runs a task and writes what it made, `sheet` shows it. The formulas are
`ict_ref.formulas.editing`.
"""
