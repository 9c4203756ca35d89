"""Improved consistency training (Song & Dhariwal 2023), typed, tested, and checked by laws.

Read it in this order:

paper        the equations as printed
formulas     the same, stable and checked: the public interface
equations    which function implements which equation
config       every field of a run, the presets, and what names a run
networks     F_theta: NCSN++ and ADM
data         data sets as training reads them; `prepare` makes them from what is published
training     the loss, one update, and the loop
checkpoint   files of a run and of a network, and loading a model from them
distributed  the processes of one run; `slurm` submits it as a job
launch       the command that trains, samples and scores
sample       the command that makes samples; `evaluate` scores them; `search` finds the second step's noise level
edit         the command that inpaints, colours, enlarges and interpolates
figures      the paper's figures; `experiments` trains where the answer is known
verify       the command that checks another implementation

`import_checkpoint` and `export_checkpoint` read and write single networks. `python -m ict_ref eq 9` prints Eq. (9).
"""

__version__ = "0.1.0"
