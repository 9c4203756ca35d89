"""The presets: the paper's runs as tables, one row per run, runs of its successors, and two small ones for any machine.

iCT's settings are Appendix B and the right column of Table 1. CT's are the left column and CM, Table 3. The ablations
are the models of Section 3, all with batch 512 and EMA 0.9999.

The authors' code supplies what neither paper states: NCSN++ with (2, 2, 2), the optimizer's betas, and flips (CM,
Appendix C). The learning rate of CT on ImageNet is CM's printed 8e-6, although CM's launch script has 1e-4.

The precision is that of CM's code. Noise shards, threads and checkpoints are our choices. So are the details that a
figure leaves open:
- in Figure 1c, changes add up, and there is no dropout before it is added (nor in Figure 1b);
- in Figures 2b and 2c, the curriculum is CT's sqrt curriculum, and c is swept over our values around 0.03;
- in Figure 1c, the paper's changes with LPIPS, of which Section 3.1 speaks, are added in the same order;
- in Figure 1b, N is 1281.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

from ict_ref.config.method import Method
from ict_ref.config.network import Network
from ict_ref.config.schema import Acceptance, Config, Data, Machine, Record, Sample, Train
from ict_ref.config.scm import Scm
from ict_ref.config.tuning import Tuning

CIFAR10 = Data(name="cifar10", labels=False, flip=True)
IMAGENET64 = Data(name="imagenet64", labels=True, flip=True)

# iCT, Appendix B, and CM's code where iCT does not differ from it.
NCSNPP = Network(
    architecture="ncsnpp",
    embedding="fourier",
    fourier_scale=0.02,
    width=128,
    multipliers=(2, 2, 2),
    blocks=4,
    attention_resolutions=(16,),
    head_channels=0,
    dropout=0.3,
    dropout_max_resolution=32,
)
# ECT's public code: EDM's DDPM++, with more dropout.
DDPMPP = Network(
    architecture="ddpmpp",
    width=128,
    multipliers=(2, 2, 2),
    blocks=4,
    attention_resolutions=(16,),
    head_channels=0,
    dropout=0.2,
    dropout_max_resolution=32,
)
ADM = Network()
NCSNPP_DEEP, ADM_DEEP = replace(NCSNPP, blocks=8), replace(ADM, blocks=6)
# CM, Appendix C and public code.
NCSNPP_CT = replace(NCSNPP, fourier_scale=16.0, dropout=0.0)
ADM_CT = replace(ADM, adaptive_norm=True, time_scale=1000.0, dropout=0.0)

# iCT, Table 1: both columns, and the steps between them in the order of Sections 3.1 to 3.4.
ICT = Method()
CT = Method(weighting="uniform", mu0=0.9, distance="lpips", curriculum="sqrt", s0=2, s1=150, noise_schedule="uniform")
CT_IMAGENET = replace(CT, mu0=0.95, s1=200)
CT_L2 = replace(CT, distance="squared_l2")
CT_WEIGHTED = replace(CT, weighting="inverse_gap")
WEIGHTED = replace(CT_L2, weighting="inverse_gap")
NO_EMA = replace(WEIGHTED, mu0=None)
HUBER = replace(NO_EMA, distance="pseudo_huber", huber_c=0.03)
MORE_LEVELS = replace(HUBER, s0=10, s1=1280)
EXP = replace(MORE_LEVELS, curriculum="exponential")
SWEEP = (0.003, 0.01, 0.1, 0.3)
"""Constants c of the pseudo-Huber distance in Figures 2b and 2c, besides 0.03; the values are ours."""
CONTINUOUS = Method(
    objective="continuous", distance="squared_l2", noise_schedule="uniform", weighting="uniform", curriculum="constant"
)
# ECT's public code for CIFAR-10.
ECT = Method(objective="ect", distance="l2")
# TCM's public code for CIFAR-10: ECT with another distance and a bound on the ratio of levels, then the second stage.
TCM_FIRST = Method(objective="ect", huber_c=1e-8)
TCM = replace(TCM_FIRST, objective="tcm")
# sCM, Appendix C.2.
SCM = Method(objective="scm", p_mean=-1.0, p_std=1.4)


# The precision of CM's code (docs/precision.md): JAX's float32 on CIFAR-10, float16 with a loss scale on ImageNet.
PRECISION: Mapping[str, Literal["tf32", "float16"]] = {"cifar10": "tf32", "imagenet64": "float16"}


def run(data: Data, network: Network, method: Method, train: Train, two_step_sigma: float) -> Config:
    """Return a preset of the paper's size, with 64 noise shards and a milestone at the end of each stage."""
    return Config(
        data=data,
        network=network,
        method=method,
        train=replace(train, noise_shards=64, precision=PRECISION[data.name]),
        sample=Sample(two_step_sigma=two_step_sigma),
        record=Record(milestone_stages=True),
    )


def train(steps: int, batch_size: int, learning_rate: float, ema_decay: float) -> Train:
    """Return the training options of a row."""
    return Train(steps=steps, batch_size=batch_size, learning_rate=learning_rate, ema_decay=ema_decay)


def digits() -> Config:
    """Return class-conditional iCT on 8x8 handwritten digits: minutes on two CPU cores.

    The method is the paper's; sizes are smaller, and other options follow from that. The run is five hundred times as
    short, so the learning rate is thirty times as large and the EMA decay smaller. The small network has half the
    dropout. Digits are not flipped.
    """
    return Config(
        network=Network(
            width=16, multipliers=(1, 2), blocks=1, attention_resolutions=(4,), head_channels=16, groups=4, dropout=0.1
        ),
        train=Train(steps=1600, batch_size=64, learning_rate=3e-3, ema_decay=0.995, noise_shards=4),
        acceptance=Acceptance(accuracy=0.85, frechet_distance=2.5, recall=0.15),
        machine=Machine(threads=1),
        record=Record(log_every=1, save_every=200),
    )


def minimal() -> Config:
    """Return the digits preset at the smallest size, for tests: seconds, and samples that are not yet digits."""
    return Config(
        network=Network(
            width=8, multipliers=(1, 2), blocks=1, attention_resolutions=(4,), head_channels=8, groups=4, dropout=0.1
        ),
        train=Train(steps=40, batch_size=16, learning_rate=1e-3, ema_decay=0.9, noise_shards=4),
        machine=Machine(threads=1),
        record=Record(log_every=1, save_every=10),
    )


def ect() -> Config:
    """Return ECT on CIFAR-10, from the weights of --train.init: the values of the authors' public code.

    The precision is that of our other presets on CIFAR-10.
    """
    config = run(replace(CIFAR10, flip=False), DDPMPP, ECT, train(200_000, 128, 1e-4, 0.9999), 0.821)
    return replace(config, tuning=Tuning(q=2.0, k=8.0, b=1.0, steps_per_stage=25_000))


def tcm(method: Method, batch_size: int, learning_rate: float, first_stage: int) -> Config:
    """Return a stage of TCM on CIFAR-10, from the weights of --train.init.

    The updates, the stages before the second stage, the EMA decay, the two-step level and flips are ours: no source
    that we have prints them.
    """
    config = run(CIFAR10, DDPMPP, method, train(200_000, batch_size, learning_rate, 0.9999), 1.0)
    tuning = Tuning(steps_per_stage=25_000, first_stage=first_stage, largest_ratio=0.999, within_range=True)
    return replace(config, tuning=tuning)


def scm() -> Config:
    """Return sCM's consistency training on CIFAR-10, from the weights of --train.init (sCM, Appendix G).

    The second step is at t = 1.1, and the EMA weights have a half-life of 0.5 million images. The updates, flips and
    precision are ours: the paper does not print them. The network is DDPM++ as for ECT.
    """
    batch, half_life = 512, 500_000
    config = run(CIFAR10, DDPMPP, SCM, train(400_000, batch, 1e-4, 0.5 ** (batch / half_life)), 0.5 * math.tan(1.1))
    options = Scm(warmup_steps=10_000, tangent_c=0.1, adaptive_weighting=True)
    return replace(config, scm=options, train=replace(config.train, beta2=0.99))


def section_3(network: Network, method: Method) -> Config:
    """Return a model of Section 3: on CIFAR-10, with batch 512 and EMA 0.9999 (iCT, Appendix B)."""
    return run(CIFAR10, network, method, train(400_000, 512, 1e-4, 0.9999), 0.821)


# fmt: off
PRESETS: dict[str, Callable[[], Config]] = {
    "digits": digits,
    "minimal": minimal,
    # Tables 2 and 3 (iCT, Appendix B)  data       network      method             steps    batch lr    EMA       two-step sigma
    "cifar10":               lambda: run(CIFAR10,    NCSNPP,      ICT,         train(400_000, 1024, 1e-4, 0.99993),  0.821),
    "cifar10_deep":          lambda: run(CIFAR10,    NCSNPP_DEEP, ICT,         train(400_000, 1024, 1e-4, 0.99993),  0.661),
    "imagenet64":            lambda: run(IMAGENET64, ADM,         ICT,         train(800_000, 4096, 1e-4, 0.99997),  1.526),
    "imagenet64_deep":       lambda: run(IMAGENET64, ADM_DEEP,    ICT,         train(800_000, 4096, 1e-4, 0.99997),  0.973),
    # The reading of Appendix B in which ImageNet's embedding keeps CM's factor of 1000 (docs/paper_and_code.md)
    "imagenet64_time1000":   lambda: run(IMAGENET64, replace(ADM, time_scale=1000.0), ICT, train(800_000, 4096, 1e-4, 0.99997), 1.526),
    # Table 1, left column (CM, Table 3; two-step sigma: iCT's on CIFAR-10, CM's public code on ImageNet)
    "cifar10_ct":            lambda: run(CIFAR10,    NCSNPP_CT,   CT,          train(800_000,  512, 4e-4, 0.9999),   0.821),
    "imagenet64_ct":         lambda: run(IMAGENET64, ADM_CT,      CT_IMAGENET, train(800_000, 2048, 8e-6, 0.999943), 1.9128),
    # Successors of iCT
    "cifar10_ect":           ect,
    "cifar10_tcm_first":     lambda: tcm(TCM_FIRST, 512,  1e-4, first_stage=0),
    "cifar10_tcm":           lambda: tcm(TCM,       1024, 5e-5, first_stage=8),
    "cifar10_scm":           scm,
    # Figure 1b: continuous time, by the scale of the Fourier embedding
    "fig1b_fourier_16":      lambda: section_3(NCSNPP_CT,                             CONTINUOUS),
    "fig1b_fourier_0.02":    lambda: section_3(replace(NCSNPP_CT, fourier_scale=0.02), CONTINUOUS),
    # Figure 1c: CT, then weighting, embedding and dropout, each added to those before
    "fig1c_lpips":           lambda: section_3(NCSNPP_CT,                             CT),
    "fig1c_l2":              lambda: section_3(NCSNPP_CT,                             CT_L2),
    "fig1c_weighting":       lambda: section_3(NCSNPP_CT,                             WEIGHTED),
    "fig1c_embedding":       lambda: section_3(replace(NCSNPP_CT, fourier_scale=0.02), WEIGHTED),
    "fig1c_dropout":         lambda: section_3(NCSNPP,                                WEIGHTED),
    "fig1c_lpips_weighting": lambda: section_3(NCSNPP_CT,                             CT_WEIGHTED),
    "fig1c_lpips_embedding": lambda: section_3(replace(NCSNPP_CT, fourier_scale=0.02), CT_WEIGHTED),
    "fig1c_lpips_dropout":   lambda: section_3(NCSNPP,                                CT_WEIGHTED),
    # Figure 2a: all of Section 3.1, with the teacher's EMA of CT and without it
    "fig2a_l2":              lambda: section_3(NCSNPP, WEIGHTED),
    "fig2a_l2_no_ema":       lambda: section_3(NCSNPP, NO_EMA),
    "fig2a_lpips":           lambda: section_3(NCSNPP, replace(WEIGHTED, distance="lpips")),
    "fig2a_lpips_no_ema":    lambda: section_3(NCSNPP, replace(NO_EMA, distance="lpips")),
    # Figures 2b (s0 = 2, s1 = 150) and 2c (10, 1280): distances, and sweeps of the constant c
    "fig2b_huber":           lambda: section_3(NCSNPP, HUBER),
    "fig2b_l2":              lambda: section_3(NCSNPP, NO_EMA),
    "fig2b_lpips":           lambda: section_3(NCSNPP, replace(NO_EMA, distance="lpips")),
    **{f"fig2b_huber_{c}":   partial(section_3, NCSNPP, replace(HUBER, huber_c=c)) for c in SWEEP},
    "fig2c_huber":           lambda: section_3(NCSNPP, MORE_LEVELS),
    "fig2c_l2":              lambda: section_3(NCSNPP, replace(NO_EMA, s0=10, s1=1280)),
    "fig2c_lpips":           lambda: section_3(NCSNPP, replace(NO_EMA, distance="lpips", s0=10, s1=1280)),
    **{f"fig2c_huber_{c}":   partial(section_3, NCSNPP, replace(MORE_LEVELS, huber_c=c)) for c in SWEEP},
    # Figures 3a (the FID of this run at each N) and 3c: curricula
    "fig3c_exponential":     lambda: section_3(NCSNPP, EXP),
    "fig3c_constant":        lambda: section_3(NCSNPP, replace(EXP, curriculum="constant")),
    "fig3c_sqrt":            lambda: section_3(NCSNPP, MORE_LEVELS),
    "fig3c_linear":          lambda: section_3(NCSNPP, replace(EXP, curriculum="linear")),
    "fig3c_square":          lambda: section_3(NCSNPP, replace(EXP, curriculum="square")),
    "fig3c_cosine":          lambda: section_3(NCSNPP, replace(EXP, curriculum="cosine")),
    # Figure 4b: noise schedules
    "fig4b_uniform":         lambda: section_3(NCSNPP, EXP),
    "fig4b_lognormal":       lambda: section_3(NCSNPP, replace(EXP, noise_schedule="lognormal")),
}
# fmt: on
