"""Improved consistency training (Song & Dhariwal 2023), typed, tested, and checked by laws.

Read it in this order: `formulas`, the equations; `config`, what can be chosen; `networks`, F_theta; `data`, and
`prepare`, which makes them of what is published; `step`, one training step; `trainer`, an update, in one process or
several; `training`, many of them; `launch`, the command, and `submission`, the same as a SLURM job; `sample` and
`evaluate`, what comes out; `search` and `edit`, what else a model is for; `experiments`, what is learned where the
answer is known; `figures`, those of the paper; `network_file`, with `import_checkpoint` and `export_checkpoint`,
networks that come and go as files; `verify`, which checks other people's code.
`python -m ict_ref eq 9` says where Eq. (9) is.
"""

__version__ = "0.1.0"
