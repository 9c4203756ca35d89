"""Scores of samples: `evaluator` for the samples of a run, `python -m ict_ref.evaluate` for any images.

`work` runs the command. It passes `sets` of images through `features`, and `measured` collects statistics in batches.
`scores` compares two sets, and `report` formats scores and protocol. `paper` has the numbers of Tables 2 and 3.
"""
