"""The presets are the papers' tables: every field, with who states it."""

import dataclasses
from typing import Any

import pytest

from ict_ref.config import PRESETS, Config, Data, Method, Network, Scm, Train, Tuning

# iCT, Section 2 (levels, rho); CM, Appendix C (sigma_data); ours: no files, c by its formula.
EVERYWHERE = {
    "objective": "discrete", "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, "sigma_data": 0.5, "huber_c": None,
    "lpips": "", "denoiser": "", "p_mean": -1.1, "p_std": 2.0, "trigflow": False,
}  # fmt: skip
# iCT, Table 1, right column.
ICT = EVERYWHERE | {
    "mu0": None, "distance": "pseudo_huber", "curriculum": "exponential", "noise_schedule": "lognormal",
    "weighting": "inverse_gap", "s0": 10, "s1": 1280,
}  # fmt: skip
# iCT, Table 1, left column.
CT = EVERYWHERE | {
    "distance": "lpips", "curriculum": "sqrt", "noise_schedule": "uniform", "weighting": "uniform", "s0": 2,
}  # fmt: skip
CT_CIFAR, CT_IMAGENET = CT | {"mu0": 0.9, "s1": 150}, CT | {"mu0": 0.95, "s1": 200}

# CM's public CIFAR-10 code, configs/cifar10_ve_ct_adaptive.py: nf 128, (2, 2, 2), attention at 16, one head, Fourier.
NCSNPP = {
    "architecture": "ncsnpp", "embedding": "fourier", "width": 128, "multipliers": (2, 2, 2),
    "attention_resolutions": (16,), "head_channels": 0, "groups": 32, "adaptive_norm": False, "time_scale": 1.0,
    "dropout_max_resolution": 32,
}  # fmt: skip
# CM's public ImageNet code, scripts/launch.sh: 192 channels, (1, 2, 3, 4), attention at 32, 16, 8, heads of 64.
ADM = {
    "architecture": "adm", "embedding": "positional", "width": 192, "multipliers": (1, 2, 3, 4),
    "attention_resolutions": (32, 16, 8), "head_channels": 64, "groups": 32, "dropout_max_resolution": 16,
    "fourier_scale": 0.02,
}  # fmt: skip
# iCT, Appendix B: Fourier scale .02, dropout .3; dropout .2 up to 16x16, AdaGN removed, the default embedding unscaled.
ICT_NCSNPP = NCSNPP | {"fourier_scale": 0.02, "dropout": 0.3}
ICT_ADM = ADM | {"adaptive_norm": False, "dropout": 0.2, "time_scale": 1.0}
CT_NCSNPP = NCSNPP | {"fourier_scale": 16.0, "dropout": 0.0, "blocks": 4}
CT_ADM = ADM | {"adaptive_norm": True, "dropout": 0.0, "time_scale": 1000.0, "blocks": 3}

# iCT, Appendix B; CM, Table 3 for CT.
NUMBERS = {
    #                  steps    batch  lr    EMA
    "cifar10": (400_000, 1024, 1e-4, 0.99993),
    "cifar10_deep": (400_000, 1024, 1e-4, 0.99993),
    "imagenet64": (800_000, 4096, 1e-4, 0.99997),
    "imagenet64_deep": (800_000, 4096, 1e-4, 0.99997),
    "imagenet64_time1000": (800_000, 4096, 1e-4, 0.99997),
    "cifar10_ct": (800_000, 512, 4e-4, 0.9999),
    "imagenet64_ct": (800_000, 2048, 8e-6, 0.999943),
}
# iCT, Appendix B, "Samples"; CT on ImageNet: the node that CM's public code names, 1.9128; on CIFAR-10 none says.
# CM's code: float32 in JAX, which is TF32 on an A100, for CIFAR-10; --use_fp16 True for ImageNet.
PRECISION = {"cifar10": "tf32", "imagenet64": "float16"}
TWO_STEP = {
    "cifar10": 0.821, "cifar10_deep": 0.661, "imagenet64": 1.526, "imagenet64_deep": 0.973, "cifar10_ct": 0.821,
    "imagenet64_ct": 1.9128, "imagenet64_time1000": 1.526,
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "cifar10": ICT_NCSNPP | {"blocks": 4},
    "cifar10_deep": ICT_NCSNPP | {"blocks": 8},
    "imagenet64": ICT_ADM | {"blocks": 3},
    "imagenet64_deep": ICT_ADM | {"blocks": 6},
    "imagenet64_time1000": ICT_ADM | {"blocks": 3, "time_scale": 1000.0},
    "cifar10_ct": CT_NCSNPP,
    "imagenet64_ct": CT_ADM,
}
METHODS = dict.fromkeys(NUMBERS, ICT) | {"cifar10_ct": CT_CIFAR, "imagenet64_ct": CT_IMAGENET}


def fields(part: Any) -> dict[str, Any]:
    return dataclasses.asdict(part)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_run_of_the_tables_has_every_field_of_the_papers(name: str) -> None:
    preset = PRESETS[name]()
    assert fields(preset.method) == METHODS[name]
    assert fields(preset.network) == NETWORKS[name]
    steps, batch, rate, decay = NUMBERS[name]
    # Noise shards are ours; the rest of the optimizer (RAdam without decay and warm-up) is not configurable.
    ours = {
        "seed": 0, "noise_shards": 64, "precision": PRECISION[preset.data.name], "clip_gradient": None,
        "skip_nonfinite": 0, "ema_sigmas": (), "init": "", "beta2": 0.999,
    }  # fmt: skip
    assert fields(preset.train) == ours | {
        "steps": steps, "batch_size": batch, "learning_rate": rate, "ema_decay": decay,
    }  # fmt: skip
    assert (preset.sample.two_step_sigma, preset.sample.clip) == (TWO_STEP[name], True)
    # iCT, Appendix B: CIFAR-10 without labels, ImageNet with; CM, Appendix C: flips.
    on_imagenet = name.startswith("imagenet64")
    data = {"path": "", "held_out": "", "partial": False, "checksum": "", "flip": True, "labels": on_imagenet}
    assert fields(preset.data) == data | {"name": "imagenet64" if on_imagenet else "cifar10"}


# Section 3, each figure's model as what differs from the model before it in the paper's own order.
IMPROVED_31 = {"weighting": "inverse_gap", "distance": "squared_l2"}  # weights; dropout and embedding are the network's
NO_EMA = IMPROVED_31 | {"mu0": None}
HUBER = NO_EMA | {"distance": "pseudo_huber", "huber_c": 0.03}
MORE = {"s0": 10, "s1": 1280}
EXP = HUBER | MORE | {"curriculum": "exponential"}
ABLATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fig1c_lpips": (CT_NCSNPP, {}),
    "fig1c_l2": (CT_NCSNPP, {"distance": "squared_l2"}),
    "fig1c_weighting": (CT_NCSNPP, IMPROVED_31),
    "fig1c_embedding": (CT_NCSNPP | {"fourier_scale": 0.02}, IMPROVED_31),
    "fig1c_dropout": (ICT_NCSNPP | {"blocks": 4}, IMPROVED_31),
    "fig1c_lpips_weighting": (CT_NCSNPP, {"weighting": "inverse_gap"}),
    "fig1c_lpips_embedding": (CT_NCSNPP | {"fourier_scale": 0.02}, {"weighting": "inverse_gap"}),
    "fig1c_lpips_dropout": (ICT_NCSNPP | {"blocks": 4}, {"weighting": "inverse_gap"}),
    "fig2a_l2": (ICT_NCSNPP | {"blocks": 4}, IMPROVED_31),
    "fig2a_l2_no_ema": (ICT_NCSNPP | {"blocks": 4}, NO_EMA),
    "fig2a_lpips": (ICT_NCSNPP | {"blocks": 4}, IMPROVED_31 | {"distance": "lpips"}),
    "fig2a_lpips_no_ema": (ICT_NCSNPP | {"blocks": 4}, NO_EMA | {"distance": "lpips"}),
    "fig2b_huber": (ICT_NCSNPP | {"blocks": 4}, HUBER),
    "fig2b_l2": (ICT_NCSNPP | {"blocks": 4}, NO_EMA),
    "fig2b_lpips": (ICT_NCSNPP | {"blocks": 4}, NO_EMA | {"distance": "lpips"}),
    "fig2b_huber_0.003": (ICT_NCSNPP | {"blocks": 4}, HUBER | {"huber_c": 0.003}),
    "fig2b_huber_0.01": (ICT_NCSNPP | {"blocks": 4}, HUBER | {"huber_c": 0.01}),
    "fig2b_huber_0.1": (ICT_NCSNPP | {"blocks": 4}, HUBER | {"huber_c": 0.1}),
    "fig2b_huber_0.3": (ICT_NCSNPP | {"blocks": 4}, HUBER | {"huber_c": 0.3}),
    "fig2c_huber_0.003": (ICT_NCSNPP | {"blocks": 4}, HUBER | MORE | {"huber_c": 0.003}),
    "fig2c_huber_0.01": (ICT_NCSNPP | {"blocks": 4}, HUBER | MORE | {"huber_c": 0.01}),
    "fig2c_huber_0.1": (ICT_NCSNPP | {"blocks": 4}, HUBER | MORE | {"huber_c": 0.1}),
    "fig2c_huber_0.3": (ICT_NCSNPP | {"blocks": 4}, HUBER | MORE | {"huber_c": 0.3}),
    "fig2c_huber": (ICT_NCSNPP | {"blocks": 4}, HUBER | MORE),
    "fig2c_l2": (ICT_NCSNPP | {"blocks": 4}, NO_EMA | MORE),
    "fig2c_lpips": (ICT_NCSNPP | {"blocks": 4}, NO_EMA | MORE | {"distance": "lpips"}),
    "fig3c_exponential": (ICT_NCSNPP | {"blocks": 4}, EXP),
    "fig3c_constant": (ICT_NCSNPP | {"blocks": 4}, EXP | {"curriculum": "constant"}),
    "fig3c_sqrt": (ICT_NCSNPP | {"blocks": 4}, EXP | {"curriculum": "sqrt"}),
    "fig3c_linear": (ICT_NCSNPP | {"blocks": 4}, EXP | {"curriculum": "linear"}),
    "fig3c_square": (ICT_NCSNPP | {"blocks": 4}, EXP | {"curriculum": "square"}),
    "fig3c_cosine": (ICT_NCSNPP | {"blocks": 4}, EXP | {"curriculum": "cosine"}),
    "fig4b_uniform": (ICT_NCSNPP | {"blocks": 4}, EXP),
    "fig4b_lognormal": (ICT_NCSNPP | {"blocks": 4}, EXP | {"noise_schedule": "lognormal"}),
}


def of_section_3(preset: Config) -> None:
    """Assert what all models of Section 3 share (iCT, Section 3 and Appendix B)."""
    assert preset.data == Data(name="cifar10", labels=False, flip=True)
    train = Train(
        steps=400_000, batch_size=512, learning_rate=1e-4, ema_decay=0.9999, noise_shards=64, precision="tf32"
    )
    assert preset.train == train


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_differs_from_ct_as_in_its_figure(name: str) -> None:
    preset = PRESETS[name]()
    network, changed = ABLATIONS[name]
    of_section_3(preset)
    assert fields(preset.network) == network
    assert fields(preset.method) == CT_CIFAR | changed


@pytest.mark.parametrize(("name", "scale"), [("fig1b_fourier_16", 16.0), ("fig1b_fourier_0.02", 0.02)])
def test_continuous_time_models_differ_in_the_scale_of_their_embedding(name: str, scale: float) -> None:
    preset = PRESETS[name]()
    of_section_3(preset)
    assert fields(preset.network) == CT_NCSNPP | {"fourier_scale": scale}
    expected = Method(
        objective="continuous", distance="squared_l2", noise_schedule="uniform", weighting="uniform",
        curriculum="constant",
    )  # fmt: skip
    assert preset.method == expected


def test_ect_has_the_values_of_its_authors_public_code() -> None:
    # locuslab/ect, run_ecm.sh and its defaults: DDPM++, batch 128, RAdam 1e-4, 200 000 updates, 8 stages, no flips.
    preset = PRESETS["cifar10_ect"]()
    assert preset.method == Method(objective="ect", distance="l2", weighting="inverse_gap", p_mean=-1.1, p_std=2.0)
    assert preset.tuning == Tuning(q=2.0, k=8.0, b=1.0, steps_per_stage=25_000, first_stage=0)
    assert preset.data == Data(name="cifar10", labels=False, flip=False)
    assert preset.train == Train(
        steps=200_000, batch_size=128, learning_rate=1e-4, ema_decay=0.9999, noise_shards=64, precision="tf32"
    )
    assert fields(preset.network) == NCSNPP | {
        "architecture": "ddpmpp", "embedding": "positional", "fourier_scale": 0.02, "blocks": 4, "dropout": 0.2,
    }  # fmt: skip
    assert preset.sample.two_step_sigma == 0.821


@pytest.mark.parametrize(
    ("name", "objective", "batch", "rate", "first"),
    [("cifar10_tcm_first", "ect", 512, 1e-4, 0), ("cifar10_tcm", "tcm", 1024, 5e-5, 8)],
)
def test_tcm_has_the_values_of_its_authors_public_code(
    name: str, objective: Any, batch: int, rate: float, first: int
) -> None:
    # NVlabs/TCM: Huber c = 1e-8, 1 / (t - r), d = 25 000, ratio <= 0.999, dropout 0.2; 1024, rho 0.25, w_b 0.1.
    preset = PRESETS[name]()
    assert preset.method == Method(objective=objective, huber_c=1e-8)
    assert preset.tuning == Tuning(
        q=2.0, k=8.0, b=1.0, steps_per_stage=25_000, first_stage=first, largest_ratio=0.999, within_range=True,
        sigma_cut=1.0, boundary_share=0.25, boundary_weight=0.1, t_scale=0.2, t_dof=0.01,
    )  # fmt: skip
    assert (preset.train.batch_size, preset.train.learning_rate) == (batch, rate)
    assert preset.network == PRESETS["cifar10_ect"]().network


def test_scm_has_the_values_of_its_appendix() -> None:
    # sCM, Appendix G: RAdam 1e-4, betas (0.9, 0.99), batch 512, EMA half-life 0.5 million images, dropout 0.2 for sCT.
    # Section 4.2 and Algorithm 1: c = 0.1, H = 10 000; two steps with t = 1.1, sigma = 0.5 tan(1.1) = 0.98238.
    preset = PRESETS["cifar10_scm"]()
    assert preset.method == Method(objective="scm", p_mean=-1.0, p_std=1.4)
    assert preset.scm == Scm(warmup_steps=10_000, tangent_c=0.1, adaptive_weighting=True)
    train = preset.train
    assert (train.learning_rate, train.beta2, train.batch_size) == (1e-4, 0.99, 512)
    assert train.ema_decay == pytest.approx(0.9992904691, abs=5e-11)
    assert preset.network == PRESETS["cifar10_ect"]().network
    assert preset.sample.two_step_sigma == pytest.approx(0.9823798286, abs=5e-11)


def test_every_preset_belongs_to_a_table_or_a_figure_or_runs_anywhere() -> None:
    assert set(PRESETS) == {
        "digits",
        "minimal",
        "cifar10_ect",
        "cifar10_tcm_first",
        "cifar10_tcm",
        "cifar10_scm",
        "fig1b_fourier_16",
        "fig1b_fourier_0.02",
        *NUMBERS,
        *ABLATIONS,
    }


def test_presets_that_differ_make_different_runs() -> None:
    # Figures that show the same model again.
    same = {("fig1c_dropout", "fig2a_l2"), ("fig2a_l2_no_ema", "fig2b_l2"), ("fig2a_lpips_no_ema", "fig2b_lpips"),
            ("fig2c_huber", "fig3c_sqrt"), ("fig1c_lpips_dropout", "fig2a_lpips"),
            ("fig3c_exponential", "fig4b_uniform")}  # fmt: skip
    digests = {name: preset().digest() for name, preset in PRESETS.items()}
    twice = {(a, b) for a in digests for b in digests if a < b and digests[a] == digests[b]}
    assert twice == same


def test_the_networks_of_the_presets_are_the_defaults_or_ncsnpp() -> None:
    assert PRESETS["imagenet64"]().network == Network()
    assert PRESETS["imagenet64"]().method == Method()
