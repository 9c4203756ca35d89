"""Configurations that several tests need."""

import dataclasses

from ict_ref.config import Config, minimal


def variants() -> list[Config]:
    """Return configurations of other runs: each differs from the minimal one in one field of its identity."""
    return _changed(IDENTITY)


def same_run_variants() -> list[Config]:
    """Return configurations of the same run: each differs from the minimal one in one field that may change."""
    return _changed(NOT_IDENTITY)


def _changed(groups: dict[str, dict[str, object]]) -> list[Config]:
    found = []
    for group, fields in groups.items():
        for name, value in fields.items():
            one = dataclasses.replace(getattr(minimal(), group), **{name: value})
            found.append(dataclasses.replace(minimal(), **{group: one}))
    return found


IDENTITY: dict[str, dict[str, object]] = {
    "data": {"flip": True, "labels": False},
    "network": {
        "architecture": "ncsnpp", "embedding": "fourier", "fourier_scale": 16.0, "adaptive_norm": True,
        "width": 16, "multipliers": (1, 1), "blocks": 2, "attention_resolutions": (8,), "head_channels": 4,
        "groups": 2, "dropout": 0.2, "dropout_max_resolution": 4, "time_scale": 2.0,
    },
    "method": {
        "sigma_min": 0.003, "sigma_max": 81.0, "rho": 6.0, "sigma_data": 0.4, "s0": 11, "s1": 1281, "p_mean": -1.0,
        "p_std": 1.9, "objective": "continuous", "mu0": 0.9, "distance": "squared_l2", "huber_c": 0.1,
        "lpips": "lpips.pt", "curriculum": "sqrt", "noise_schedule": "uniform", "weighting": "uniform",
    },
    "tuning": {
        "q": 4.0, "k": 4.0, "b": 2.0, "steps_per_stage": 10_000, "first_stage": 1, "largest_ratio": 0.9,
        "within_range": True, "sigma_cut": 2.0, "boundary_share": 0.5, "boundary_weight": 0.2, "t_scale": 0.3,
        "t_dof": 0.02,
    },
    "scm": {"warmup_steps": 100, "tangent_c": 0.2, "adaptive_weighting": False},
    "train": {
        "steps": 41, "batch_size": 32, "learning_rate": 2e-3, "ema_decay": 0.8, "ema_sigmas": (0.05, 0.1),
        "init": "net", "seed": 1, "noise_shards": 2, "precision": "float64", "clip_gradient": 1.0, "skip_nonfinite": 1,
        "beta2": 0.9,
    },
}  # fmt: skip
NOT_IDENTITY: dict[str, dict[str, object]] = {
    "data": {"partial": True},
    "sample": {"two_step_sigma": 0.9, "clip": False},
    "acceptance": {"accuracy": 0.1, "frechet_distance": 1.0, "recall": 0.1},
    "machine": {
        "device": "cpu", "threads": 2, "accumulate": 2, "recompute": True, "channels_last": True, "compile": True,
        "cuda_graphs": True, "deterministic": True, "trust": ("0" * 64,),
    },
    "record": {
        "log_every": 7, "save_every": 3, "keep": 1, "milestone_every": 9, "milestone_stages": True,
        "ema_snapshots": 8, "sample_every": 5, "tensorboard": True, "wandb": "folder", "mlflow": "server",
    },
}  # fmt: skip
