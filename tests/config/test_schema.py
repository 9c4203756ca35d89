import dataclasses
import hashlib
import json
import math
import re
from typing import Any, Literal, get_args, get_type_hints

import pytest
from tests.support.configs import IDENTITY, NOT_IDENTITY, same_run_variants, variants

from ict_ref.config import (
    Acceptance,
    Config,
    Data,
    Machine,
    Method,
    Network,
    Record,
    Sample,
    Train,
    digits,
    minimal,
)
from ict_ref.config.identity import digest, flat, identity, is_identity
from ict_ref.config.old_names import first_name


def test_the_defaults_are_those_of_the_paper_for_imagenet() -> None:
    # Section 2: sigma range and rho. Table 1, right column: s0, s1, P_mean, P_std. CM, Appendix C: sigma_data.
    assert dataclasses.asdict(Method()) == {
        "objective": "discrete", "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, "sigma_data": 0.5, "mu0": None,
        "distance": "pseudo_huber", "huber_c": None, "lpips": "", "curriculum": "exponential", "s0": 10, "s1": 1280,
        "noise_schedule": "lognormal", "p_mean": -1.1, "p_std": 2.0, "weighting": "inverse_gap", "denoiser": "",
        "trigflow": False,
    }  # fmt: skip
    # Appendix B: 3 blocks per resolution, dropout .2 up to 16x16; the rest is the authors' CM code for ImageNet 64x64.
    assert dataclasses.asdict(Network()) == {
        "architecture": "adm", "embedding": "positional", "fourier_scale": 0.02, "width": 192,
        "multipliers": (1, 2, 3, 4), "blocks": 3, "attention_resolutions": (32, 16, 8), "head_channels": 64,
        "groups": 32, "adaptive_norm": False, "dropout": 0.2, "dropout_max_resolution": 16, "time_scale": 1.0,
    }  # fmt: skip
    # Appendix B: 800 000 iterations of 4096 at 1e-4, EMA .99997. The others are ours.
    assert dataclasses.asdict(Train()) == {
        "steps": 800_000, "batch_size": 4096, "learning_rate": 1e-4, "ema_decay": 0.99997, "ema_sigmas": (), "init": "",
        "seed": 0, "noise_shards": 1, "precision": "float32", "clip_gradient": None, "skip_nonfinite": 0,
        "beta2": 0.999,
    }  # fmt: skip
    assert dataclasses.asdict(Sample()) == {"two_step_sigma": 0.821, "clip": True}
    assert dataclasses.asdict(Data()) == {
        "name": "digits", "path": "", "held_out": "", "partial": False, "checksum": "", "flip": False, "labels": True,
    }  # fmt: skip
    assert dataclasses.asdict(Acceptance()) == {"accuracy": None, "frechet_distance": None, "recall": None}


def test_the_digits_preset_differs_from_the_paper_in_size_only() -> None:
    assert digits().method == Method()
    assert digits().acceptance == Acceptance(accuracy=0.85, frechet_distance=2.5, recall=0.15)
    assert digits().data == minimal().data == Data()
    assert digits().train == Train(steps=1600, batch_size=64, learning_rate=3e-3, ema_decay=0.995, noise_shards=4)
    assert digits().network == Network(
        width=16, multipliers=(1, 2), blocks=1, attention_resolutions=(4,), head_channels=16, groups=4, dropout=0.1
    )


@pytest.mark.parametrize(
    ("group", "field", "bad"),
    [
        *((Network, name, 0) for name in ("width", "blocks", "groups")),
        *((Network, "fourier_scale", bad) for bad in (0.0, -1.0, math.inf, math.nan)),
        (Network, "head_channels", -1),
        (Network, "width", 63),
        (Network, "multipliers", ()),
        (Network, "multipliers", (1, 0)),
        (Network, "groups", 5),
        (Network, "head_channels", 65),
        *((Network, "dropout", bad) for bad in (-0.1, 1.0, math.nan)),
        (Network, "time_scale", math.inf),
        (Network, "dropout_max_resolution", -1),
        *((Machine, "threads", bad) for bad in (-1, 1025)),
        (Machine, "accumulate", 0),
        *((Record, name, 0) for name in ("log_every", "save_every", "keep", "ema_snapshots")),
        *((Record, name, -1) for name in ("milestone_every", "sample_every")),
        *((Train, name, 0) for name in ("steps", "batch_size", "noise_shards")),
        *((Train, "clip_gradient", bad) for bad in (0.0, math.inf, math.nan)),
        (Train, "skip_nonfinite", -1),
        (Train, "noise_shards", 3),
        *((Train, "learning_rate", bad) for bad in (0.0, -1.0, math.inf, math.nan)),
        *((Train, "ema_decay", bad) for bad in (-0.1, 1.0, math.nan, (), (0.9, 1.0), (0.9, 0.9))),
        *((Train, "ema_sigmas", bad) for bad in ((0.0,), (0.29,), (math.nan,), (0.1, 0.1))),
        (Train, "seed", -1),
        *((Acceptance, name, bad) for name in ("accuracy", "recall") for bad in (-0.1, 1.1, math.nan)),
        *((Acceptance, "frechet_distance", bad) for bad in (-0.1, math.inf, math.nan)),
        *(
            (Method, name, bad)
            for name in ("rho", "sigma_data", "p_std", "huber_c")
            for bad in (0.0, math.inf, math.nan)
        ),
        *((Method, "sigma_min", bad) for bad in (0.0, 80.0, math.nan)),
        (Method, "rho", 1e-6),
        (Method, "p_mean", math.nan),
        *((Method, "mu0", bad) for bad in (0.0, 1.0, 1.5, math.nan)),
        *((Method, "s0", bad) for bad in (0, 1281)),
    ],
)
def test_a_value_out_of_range_is_rejected_by_the_name_of_its_option(group: Any, field: str, bad: object) -> None:
    option = f"--{group.__name__.lower()}.{field.replace('_', '-')}"
    with pytest.raises(ValueError, match=rf"^{re.escape(option)}: expected .*, got"):
        group(**{field: bad})


def test_one_decay_is_a_number_however_it_is_given() -> None:
    one = Train(ema_decay=(0.9,))
    assert one == Train(ema_decay=0.9)
    assert dataclasses.replace(minimal(), train=one).identity()["train.ema_decay"] == 0.9
    stored = json.loads(minimal().to_json())
    stored["train"]["ema_decay"] = [0.9]
    assert Config.from_dict(stored).digest() == minimal().digest()
    assert Train(ema_decay=(0.9, 0.8)).ema_decays == (0.9, 0.8)


def test_values_that_would_have_no_effect_are_not_checked() -> None:
    assert Method(noise_schedule="uniform", p_std=-1.0).p_std == -1
    assert Method(curriculum="constant", s0=1).s0 == Method(s0=1).s0 == 1


@pytest.mark.parametrize("curriculum", ["sqrt", "linear", "square", "cosine"])
def test_a_curriculum_that_begins_with_s0_levels_needs_two(curriculum: Any) -> None:
    with pytest.raises(ValueError, match=rf"--method\.s0: expected 2 <= s0 <= s1 for the {curriculum} curriculum"):
        Method(curriculum=curriculum, s0=1)
    assert Method(curriculum=curriculum, s0=2).s0 == 2


def test_the_exponential_curriculum_needs_a_step_for_each_doubling() -> None:
    # s1 / s0 = 128: seven doublings, eight stages.
    assert Config(train=Train(steps=8)).train.steps == 8
    with pytest.raises(ValueError, match=r"--train\.steps: expected at least 8 steps .*, got 7\. Train for at least 8"):
        Config(train=Train(steps=7))
    assert Config(method=Method(curriculum="sqrt"), train=Train(steps=1)).train.steps == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("sigma_min", 1e-50), ("sigma_max", 1e100), ("sigma_data", 1e200), ("huber_c", 1e-30)],
)
def test_a_number_that_float32_cannot_represent_needs_float64(field: str, value: float) -> None:
    method = Method(**{field: value, "sigma_max": max(80.0, value) if field == "sigma_max" else 80.0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"--method\.{field.replace('_', '-')}: expected .* float32"):
        Config(method=method)
    double = {} if value == 1e200 else {"train": Train(precision="float64")}
    if double:
        assert Config(method=method, **double).method == method  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"distance": "squared_l2", "huber_c": 0.03},
            r"--method\.huber-c: expected None unless --method\.distance",
        ),
        (
            {"objective": "continuous", "mu0": 0.9},
            r"--method\.mu0: expected None where --method\.objective",
        ),
        ({"denoiser": "edm.pt"}, r"--method\.denoiser: expected nothing unless .* is distillation or scm, got edm\.pt"),
    ],
)
def test_an_option_without_effect_is_rejected(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Method(**options)


def test_ncsnpp_has_no_adagn_and_groups_of_at_least_four_channels() -> None:
    with pytest.raises(
        ValueError, match=r"--network\.adaptive-norm: expected False, as NCSN\+\+ and DDPM\+\+ have no AdaGN"
    ):
        Network(architecture="ncsnpp", adaptive_norm=True)
    with pytest.raises(ValueError, match=r"--network\.width: expected 4 channels or more, got 2"):
        Network(architecture="ncsnpp", width=2, head_channels=0)
    with pytest.raises(ValueError, match=r"--network\.groups: expected a divisor of 132 channels"):
        Network(architecture="ncsnpp", width=132, head_channels=0)
    network = Network(architecture="ncsnpp", width=32, multipliers=(1, 4), head_channels=0)
    assert [network.groups_of(channels) for channels in (32, 64, 128, 256)] == [8, 16, 32, 32]
    assert Network().groups_of(192) == 32


@pytest.mark.parametrize("config", variants(), ids=lambda config: config.digest())
def test_a_configuration_is_read_back_from_its_json(config: Config) -> None:
    assert Config.from_dict(json.loads(config.to_json())) == config


@pytest.mark.parametrize("sigma", [0.001, 80.0, 81.0, math.nan])
def test_the_intermediate_level_lies_within_the_noise_range(sigma: float) -> None:
    with pytest.raises(ValueError, match=r"--sample\.two-step-sigma: expected 0\.002 <= sigma < 80\.0"):
        Config(sample=Sample(two_step_sigma=sigma))


def test_runs_of_each_precision_are_other_runs_and_those_of_earlier_versions_keep_their_digest() -> None:
    policies = get_args(get_type_hints(Train)["precision"])
    trains = [dataclasses.replace(minimal().train, precision=one) for one in policies]
    digests: dict[str, str] = {}
    for train in trains:
        digests[train.precision] = dataclasses.replace(minimal(), train=train).digest()
    assert len(set(digests.values())) == len(policies) == 5
    # The digests of --config minimal with --train.dtype float64 and --train.autocast bfloat16 in the version before.
    old_options = {"float32": {}, "float64": {"train.dtype": "float64"}, "bfloat16": {"train.autocast": "bfloat16"}}
    for precision, old in old_options.items():
        fields = {first_name(name): value for name, value in minimal().identity().items()} | old
        text = json.dumps({name: fields[name] for name in sorted(fields)})
        assert digests[precision] == hashlib.sha256(text.encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    ("precision", "dtype", "low"),
    [
        ("float64", "float64", None),
        ("float32", "float32", None),
        ("tf32", "float32", None),
        ("bfloat16", "float32", "bfloat16"),
        ("float16", "float32", "float16"),
    ],
)
def test_parameters_are_in_float32_except_in_float64(precision: Any, dtype: str, low: str | None) -> None:
    train = Train(precision=precision)
    assert (train.dtype, train.low_precision) == (dtype, low)


def test_every_field_is_either_part_of_the_identity_or_may_change() -> None:
    fields = set(flat(dataclasses.asdict(minimal())))
    changed = {f"{group}.{name}" for groups in (IDENTITY, NOT_IDENTITY) for group in groups for name in groups[group]}
    # A run on digits has no folder and no checksum, and the minimal preset neither distils nor trains a denoiser.
    of_others = {"method.denoiser", "method.trigflow"}
    assert fields - changed == {"data.name", "data.path", "data.held_out", "data.checksum"} | of_others
    assert {name for name in fields if not is_identity(Config, name)} == {
        "data.path",
        "data.held_out",
        *(f"{group}.{name}" for group in NOT_IDENTITY for name in NOT_IDENTITY[group]),
    }


def test_a_field_of_the_identity_makes_another_run_and_no_other_field_does() -> None:
    assert len({config.digest() for config in [minimal(), *variants()]}) == len(variants()) + 1
    assert {config.digest() for config in same_run_variants()} == {minimal().digest()}
    moved = dataclasses.replace(Data(name="folder"), path="here", held_out="there")
    assert Config(data=moved).digest() == Config(data=Data(name="folder")).digest()


@pytest.mark.parametrize(
    ("chosen", "device", "steps", "compiles"),
    [
        ("auto", "cuda", 10_000, True),
        ("auto", "cuda", 9_999, False),
        ("auto", "cpu", 400_000, False),
        (True, "cpu", 1, True),
        (False, "cuda", 400_000, False),
    ],
)
def test_long_runs_on_a_gpu_are_compiled_unless_the_option_says_otherwise(
    chosen: bool | Literal["auto"], device: str, steps: int, compiles: bool
) -> None:
    assert Machine(compile=chosen).compiles(device, steps) is compiles


def test_cuda_graphs_need_a_compiled_network() -> None:
    with pytest.raises(ValueError, match=r"cuda-graphs: expected a compiled network, got --machine\.no-compile"):
        Machine(compile=False, cuda_graphs=True)
    assert Machine(cuda_graphs=True).compile == "auto"


def test_a_field_that_a_later_version_adds_with_a_default_changes_no_digest() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class LaterTrain(Train):
        warm_up: int = 0

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class LaterConfig(Config):
        train: Train = dataclasses.field(default_factory=LaterTrain)

    later = LaterConfig(network=minimal().network, train=LaterTrain(**dataclasses.asdict(minimal().train)))
    stored = dataclasses.asdict(minimal())
    assert digest(identity(LaterConfig, dataclasses.asdict(later))) == digest(identity(Config, stored))
    assert digest(identity(LaterConfig, stored)) == minimal().digest()
    warmed = dataclasses.replace(later, train=LaterTrain(**{**dataclasses.asdict(later.train), "warm_up": 5}))
    assert digest(identity(LaterConfig, dataclasses.asdict(warmed))) != minimal().digest()
