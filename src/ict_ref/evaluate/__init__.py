"""How good samples are: `judge` scores those of a run by held-out images; `python -m ict_ref.evaluate` any by any.

The command's way: `sets` of images go through `features` and are `measured` in batches; `scores` compares two of them,
and `report` says what came out and by which protocol. `paper` has the numbers of Tables 2 and 3.
"""
