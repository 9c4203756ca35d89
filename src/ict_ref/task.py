"""Where jobs that version 0.1.0 submitted look for their work: they end with one line here.

submitit stores a queued job as a pickle that names this module. The work is in `ict_ref.slurm.worker` now.
"""

raise SystemExit(
    "ict_ref: this job was submitted by another version of ict_ref; submit it again by the same command: it continues "
    "from what is saved"
)
