"""The audit of a model finds its wrong coefficients, and only those, however the model is written."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ict_ref import formulas
from ict_ref.config import minimal
from ict_ref.networks.model import build_model
from ict_ref.verify.__main__ import main
from ict_ref.verify.audit.model.audit import audit
from ict_ref.verify.audit.model.call import is_builder, level_forms
from ict_ref.verify.audit.options import ModelOptions
from ict_ref.verify.checks.audited import deviation_book
from ict_ref.verify.checks.result import Result
from ict_ref.verify.report.finding import findings, fix_of
from ict_ref.verify.report.report import graded
from ict_ref.verify.target.load import TargetError

MIN, DATA = 0.002, 0.5


class Network(nn.Module):
    """F(x, c): a small network for images of three channels."""

    def __init__(self, dropout: float = 0.0, classes: int = 0) -> None:
        super().__init__()
        self.embed, self.first, self.last = (
            nn.Linear(1, 8),
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 3, 3, padding=1),
        )
        self.dropout, self.classes = nn.Dropout(dropout), nn.Embedding(classes, 8) if classes else None

    def forward(self, x: Tensor, c: Tensor, labels: Tensor | None = None) -> Tensor:
        h = self.embed(c.reshape(-1, 1).to(self.embed.weight.dtype))
        if labels is not None and self.classes is not None:
            h = h + self.classes(labels)
        h = self.first(x) + h[:, :, None, None]
        value: Tensor = self.last(self.dropout(h.relu()))
        return value


def column(sigma: Tensor) -> Tensor:
    return sigma.reshape(-1, 1, 1, 1)


class Wrapper(nn.Module):
    """f(x, sigma) with coefficients that a test may replace."""

    def __init__(self, network: nn.Module | None = None, **changed: Any) -> None:
        super().__init__()
        self.network = Network() if network is None else network
        self.skip = changed.get("skip", lambda s: DATA**2 / ((s - MIN) ** 2 + DATA**2))
        self.out = changed.get("out", lambda s: DATA * (s - MIN) / (s**2 + DATA**2).sqrt())
        self.scale = changed.get("scale", lambda s: 1 / (s**2 + DATA**2).sqrt())
        self.noise = changed.get("noise", lambda s: s.log() / 4)
        self.after = changed.get("after", lambda f: f)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        value = self.network(column(self.scale(sigma)) * x, self.noise(sigma))
        f: Tensor = self.after(column(self.skip(sigma)) * x + column(self.out(sigma)) * value)
        return f


def audited(target: Any, **options: Any) -> list[Result]:
    return audit(target, ModelOptions(**{"target": "x", "shape": "3,8,8", **options}))


def failed(target: Any, **options: Any) -> dict[str, str | None]:
    """Return the deviations of the results that fail without --strict, by their ids."""
    return {one.id: one.deviation for one in graded(audited(target, **options), strict=False) if one.status == "fail"}


def skipped(target: Any, **options: Any) -> set[str]:
    return {one.id for one in audited(target, **options) if one.status == "skipped"}


# Right models.


def a_function() -> Callable[..., Tensor]:
    network = Network()
    return lambda x, sigma: formulas.boundary_parameterization(network, x, sigma)


def a_method() -> Callable[..., Tensor]:
    class Denoiser:
        def __init__(self) -> None:
            self.inside = Wrapper()

        def denoise(self, x: Tensor, t: Tensor) -> Tensor:
            f: Tensor = self.inside(x, t)
            return f

    return Denoiser().denoise


class Outer(nn.Module):
    """A model in a model, whose network is in a network."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.DataParallel(Wrapper(nn.DataParallel(Network())))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        f: Tensor = self.module(x, sigma)
        return f


def with_buffers() -> nn.Module:
    class Buffered(nn.Module):
        min: Tensor
        data: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.model = Network()
            self.register_buffer("min", torch.tensor(MIN))
            self.register_buffer("data", torch.tensor(DATA))

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            s = column(sigma)
            variance = s**2 + self.data**2
            value = self.model(x / variance.sqrt(), sigma.log() / 4)
            skipped = self.data**2 / ((s - self.min) ** 2 + self.data**2) * x
            f: Tensor = skipped + self.data * (s - self.min) * variance.rsqrt() * value
            return f

    return Buffered()


class Bfloat16(nn.Module):
    """F in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network().bfloat16()

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        value: Tensor = self.network(x.bfloat16(), c)
        return value


class Named(nn.Module):
    """F that is called by keywords, and returns its value in another object."""

    def __init__(self, pack: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.network, self.pack = Network(), pack

    def forward(self, *, sample: Tensor, timestep: Tensor) -> object:
        return self.pack(self.network(sample, timestep))


class Unpacked(nn.Module):
    def __init__(self, pack: Callable[[Tensor], object], unpack: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.packed, self.unpack = Named(pack), unpack

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return formulas.boundary_parameterization(lambda x, c: self.unpack(self.packed(sample=x, timestep=c)), x, sigma)


def with_scaling_modules() -> nn.Module:
    class Times(nn.Module):
        def forward(self, x: Tensor, factor: Tensor) -> Tensor:
            return column(factor) * x

    class Whole(Wrapper):
        def __init__(self) -> None:
            super().__init__()
            self.in_scale, self.out_scale, self.skip_scale = Times(), Times(), Times()

        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            value = self.network(self.in_scale(x, self.scale(sigma)), self.noise(sigma))
            f: Tensor = self.skip_scale(x, self.skip(sigma)) + self.out_scale(value, self.out(sigma))
            return f

    return Whole()


def with_a_zero_output() -> nn.Module:
    model = Wrapper()
    nn.init.zeros_(model.network.last.weight)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(model.network.last.bias)  # type: ignore[union-attr, arg-type]
    return model


def with_batch_norm() -> nn.Module:
    network = Network()
    network.last = nn.Sequential(nn.BatchNorm2d(8), network.last)  # type: ignore[assignment]
    return Wrapper(network)


def with_levels(convert: Callable[[Any, int], Any]) -> Callable[[Tensor, Any], Tensor]:
    """Return a right f that takes levels in another form."""
    right = Wrapper()
    return lambda x, sigma: right(x, convert(sigma, len(x)))


RIGHT: dict[str, Callable[[], Any]] = {
    "a module": Wrapper,
    "a function": a_function,
    "a method": a_method,
    "a wrapper of a wrapper": Outer,
    "constants in buffers": with_buffers,
    "a network in bfloat16": lambda: Wrapper(Bfloat16()),
    "a network that returns a tuple": lambda: Unpacked(lambda value: (value, None), lambda output: output[0]),
    "a network that returns a mapping": lambda: Unpacked(lambda value: {"f": value}, lambda output: output["f"]),
    "a network that returns an object": lambda: Unpacked(lambda v: SimpleNamespace(sample=v), lambda o: o.sample),
    "coefficients in modules": with_scaling_modules,
    "a network whose output is zero": with_a_zero_output,
    "batch norm": with_batch_norm,
    "dropout": lambda: Wrapper(Network(dropout=0.3)),
    "levels of shape [B, 1]": lambda: with_levels(lambda s, _: s.squeeze(1)),
    "levels of shape [B, 1, 1, 1]": lambda: with_levels(lambda s, _: s.squeeze(3).squeeze(2).squeeze(1)),
    "one level for all": lambda: with_levels(lambda s, count: s.expand(count) if s.ndim == 0 else 1 / 0),
    "a level that is a number": lambda: with_levels(lambda s, count: torch.tensor([float.fromhex(s.hex())] * count)),
}
COEFFICIENTS = {f"model:{name}:{mode}" for name in ("c_skip", "c_out", "c_in", "c_noise") for mode in ("train", "eval")}


@pytest.mark.parametrize("what", RIGHT)
def test_a_right_model_passes_with_all_its_coefficients(what: str) -> None:
    found = audited(RIGHT[what]())
    assert [one.message for one in found if one.status == "fail"] == []
    assert {one.id for one in found if one.status == "pass"} >= COEFFICIENTS


def test_the_project_s_own_model_passes_with_labels_and_a_network_in_bfloat16() -> None:
    model = build_model(minimal(), event=(1, 8, 8), classes=10)
    model.autocast = torch.bfloat16
    found = audited(model, shape="1,8,8", labels=10)
    # A model that was trained with labels rejects a call without them.
    assert [(one.id, one.kind) for one in found if one.status == "fail"] == [("model:labels:none", "type")]
    assert {one.id for one in found if one.status == "pass"} >= {*COEFFICIENTS, "model:autocast", "model:labels"}


def test_a_model_in_float64_and_one_of_vectors_pass() -> None:
    assert failed(Wrapper().double(), dtype="float64") == {}

    class Vectors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Linear(3, 2)

        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            value: Tensor = self.layers(torch.cat([x, c[:, None]], 1))
            return value

    network = Vectors()
    found = audited(lambda x, sigma: formulas.boundary_parameterization(network, x, sigma), shape="2")
    assert [one.message for one in found if one.status == "fail"] == []
    assert {one.id for one in found if one.status == "pass"} >= COEFFICIENTS


def test_other_settings_are_compared_with_those_of_the_options() -> None:
    network = Network()

    def f(x: Tensor, sigma: Tensor) -> Tensor:
        return formulas.boundary_parameterization(network, x, sigma, sigma_min=0.01, sigma_data=1.0)

    assert failed(f, sigma_min=0.01, sigma_data=1.0, sigma_max=50.0) == {}
    assert set(failed(f)) >= {"model:c_out:eval", "model:c_in:train"}


@pytest.mark.parametrize(
    ("what", "levels"),
    [("a module", "[B]"), ("levels of shape [B, 1]", "[B, 1]"), ("levels of shape [B, 1, 1, 1]", "[B, 1, 1, 1]"),
     ("one level for all", "scalar"), ("a level that is a number", "float")],
)  # fmt: skip
def test_the_form_of_levels_is_named(what: str, levels: str) -> None:
    [call] = [one for one in audited(RIGHT[what]()) if one.id == "model:call"]
    assert f"levels as {levels}; F is " in call.message


# F's last layer, and f alone.


class Inside(nn.Module):
    """f with everything in its forward, so that no module maps x's shape to itself."""

    def __init__(
        self, c_out: Callable[[Tensor], Tensor], c_in: Callable[[Tensor], Tensor], factor: float = 1.0
    ) -> None:
        super().__init__()
        self.embed, self.first, self.last = (
            nn.Linear(1, 8),
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 3, 3, padding=1),
        )
        self.c_out, self.c_in, self.factor = c_out, c_in, factor

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        h = self.first(column(self.c_in(sigma)) * x) + self.embed(sigma.log()[:, None] / 4)[:, :, None, None]
        value: Tensor = self.factor * self.last(h.relu())
        return column(formulas.c_skip(sigma)) * x + column(self.c_out(sigma)) * value


def test_coefficients_inside_forward_are_read_at_the_last_layer() -> None:
    found = audited(Inside(formulas.c_out, formulas.c_in))
    assert [one.message for one in found if one.status == "fail"] == []
    assert {one.id for one in found if one.status == "pass"} >= COEFFICIENTS
    assert "F is known by its output only, that of last (Conv2d)" in found[0].message
    half = failed(Inside(lambda sigma: formulas.c_out(sigma) / 2, torch.ones_like))
    assert half == {f"model:{name}:{mode}": deviation for mode in ("train", "eval")
                    for name, deviation in (("c_out", "HalfCOut"), ("c_in", "NoInputScaling"))}  # fmt: skip


def test_a_factor_behind_the_last_layer_is_not_taken_for_a_wrong_coefficient() -> None:
    model = Inside(formulas.c_out, formulas.c_in, factor=3.0)
    assert failed(model) == {}
    assert skipped(model) == {"model:c_out:train", "model:c_out:eval", "model:autocast"}


def alone(c_skip: Callable[[Tensor], Tensor], c_out: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def f(x: Tensor, sigma: Tensor) -> Tensor:
        return column(c_skip(sigma)) * x + column(c_out(sigma)) * torch.sin(3 * column(formulas.c_in(sigma)) * x + 1)

    return f


def test_f_without_modules_is_checked_alone() -> None:
    unmeasured = {"model:c_skip", "model:c_out", "model:c_in", "model:c_noise", "model:autocast", "model:sensitivity"}
    assert skipped(alone(formulas.c_skip, formulas.c_out)) == unmeasured
    assert failed(alone(formulas.c_skip, formulas.c_out)) == {}


@pytest.mark.parametrize(
    ("c_skip", "c_out", "ids"),
    [
        (lambda s: 1 / (1 + 4 * s**2), lambda s: s / (1 + 4 * s**2).sqrt(), {"model:boundary:eval", "model:near"}),
        (torch.ones_like, lambda s: s - MIN, {"model:far"}),
    ],
)
def test_f_alone_can_be_wrong(c_skip: Any, c_out: Any, ids: set[str]) -> None:
    assert set(failed(alone(c_skip, c_out))) == ids


# Wrong models.


def root(sigma: Tensor, data: float = DATA) -> Tensor:
    return (sigma**2 + data**2).sqrt()


class EvalOnly(Wrapper):
    """EDM's coefficients in training mode, those of sigma_min = 0.003 in evaluation mode."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        m = 0.0 if self.training else 0.003
        value = self.network(column(self.scale(sigma)) * x, self.noise(sigma))
        out = DATA * (sigma - m) / root(sigma)
        f: Tensor = column(DATA**2 / ((sigma - m) ** 2 + DATA**2)) * x + column(out) * value
        return f


class Switched(Wrapper):
    """EDM's coefficients, and x itself at sigma_min."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.where(column(sigma) <= MIN, x, super().forward(x, sigma))


class MatrixProduct(Wrapper):
    """A product that autocast computes in bfloat16."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        value = self.network(column(self.scale(sigma)) * x, self.noise(sigma)).float()
        skipped = torch.bmm(self.skip(sigma)[:, None, None], x.reshape(len(x), 1, -1)).reshape(x.shape)
        f: Tensor = skipped + column(self.out(sigma)) * value
        return f


class InPlace(Wrapper):
    """f that changes its argument."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        f = super().forward(x, sigma)
        x.add_(1)
        return f


def edm(**others: Any) -> dict[str, Any]:
    return {"skip": lambda s: DATA**2 / (s**2 + DATA**2), "out": lambda s: DATA * s / root(s), **others}


def both(**deviations: str) -> dict[str, str | None]:
    """Return the deviations of the results of both modes."""
    return {f"model:{name}:{mode}": deviation for name, deviation in deviations.items() for mode in ("train", "eval")}


WRONG: dict[str, tuple[Callable[[], Any], dict[str, str | None]]] = {
    "the network gets sigma": (lambda: Wrapper(noise=lambda s: s), both(c_noise="RawSigmaNoise")),
    "the network gets 1000 log(sigma) / 4": (
        lambda: Wrapper(noise=lambda s: 250 * s.log()), both(c_noise="ScaledNoise")
    ),
    "the network gets log(sigma)": (lambda: Wrapper(noise=torch.log), both(c_noise="LogNoise")),
    "the input is not scaled": (lambda: Wrapper(scale=torch.ones_like), both(c_in="NoInputScaling")),
    "c_in is squared": (lambda: Wrapper(scale=lambda s: 1 / (s**2 + DATA**2)), both(c_in="SquaredCIn")),
    "the coefficients are EDM's": (
        lambda: Wrapper(**edm()),
        both(c_skip="EdmCoefficients", c_out="EdmCoefficients", boundary="EdmCoefficients"),
    ),
    "c_skip is EDM's": (lambda: Wrapper(skip=edm()["skip"]), both(c_skip="EdmSkip", boundary="EdmSkip")),
    "c_out is EDM's": (lambda: Wrapper(out=edm()["out"]), both(c_out="SigmaInCOut", boundary="SigmaInCOut")),
    "the coefficients are those of a training script": (
        lambda: Wrapper(skip=edm()["skip"], out=lambda s: s / root(s)),
        both(c_skip="DiffusersScalings", c_out="DiffusersScalings", boundary="DiffusersScalings"),
    ),
    "c_out is half": (lambda: Wrapper(out=lambda s: DATA**2 * (s - MIN) / root(s)), both(c_out="HalfCOut")),
    "sigma_data is 1": (
        lambda: Wrapper(
            skip=lambda s: 1 / ((s - MIN) ** 2 + 1),
            out=lambda s: (s - MIN) / root(s, 1),
            scale=lambda s: 1 / root(s, 1),
        ),
        both(c_skip="OtherSigmaData", c_out="OtherSigmaData", c_in="OtherSigmaData"),
    ),
    "sigma_min is 0.003 in eval, and 0 in train": (
        EvalOnly,
        {
            **{f"model:{name}:train": "EdmCoefficients" for name in ("c_skip", "c_out", "boundary")},
            **{f"model:{name}:eval": "OtherSigmaMin" for name in ("c_skip", "c_out", "boundary")},
            "model:modes": "TrainEvalMismatch",
        },
    ),
    "sigma_min is 0.02": (
        lambda: Wrapper(
            skip=lambda s: DATA**2 / ((s - 0.02) ** 2 + DATA**2), out=lambda s: DATA * (s - 0.02) / root(s)
        ),
        both(c_skip="OtherSigmaMin", c_out="OtherSigmaMin", boundary="OtherSigmaMin"),
    ),
    "sigma_data is 1 in c_in": (lambda: Wrapper(scale=lambda s: 1 / root(s, 1)), both(c_in="OtherSigmaData")),
    "sigma_data is 1 but for c_in": (
        lambda: Wrapper(skip=lambda s: 1 / ((s - MIN) ** 2 + 1), out=lambda s: (s - MIN) / root(s, 1)),
        both(c_skip="OtherSigmaData", c_out="OtherSigmaData"),
    ),
    "sigma_data is 0.5321": (
        lambda: Wrapper(
            skip=lambda s: 0.5321**2 / ((s - MIN) ** 2 + 0.5321**2),
            out=lambda s: 0.5321 * (s - MIN) / root(s, 0.5321),
            scale=lambda s: 1 / root(s, 0.5321),
        ),
        both(c_skip="OtherSigmaData", c_out="OtherSigmaData", c_in="OtherSigmaData"),
    ),
    "the boundary holds by a case distinction": (
        lambda: Switched(**edm()),
        both(c_skip="EdmCoefficients", c_out="EdmCoefficients and SwitchedBoundary"),
    ),
    "f is clipped": (
        lambda: Wrapper(after=lambda f: f.clamp(-1, 1)),
        {"model:clipping": "ClampedOutput"},
    ),
    "levels are in bfloat16": (
        lambda: with_levels(lambda s, _: s.bfloat16().float()),
        both(**dict.fromkeys(("c_skip", "c_out", "c_in", "c_noise", "boundary"), "RoundedLevels")),
    ),
    "c_noise is in bfloat16": (
        lambda: Wrapper(noise=lambda s: (s.log() / 4).bfloat16()), both(c_noise="RoundedLevels")
    ),
    "a product is in bfloat16 under autocast": (MatrixProduct, {"model:autocast": "RoundedLevels"}),
    "c_out is 0.7 times the right value": (
        lambda: Wrapper(out=lambda s: 0.7 * DATA * (s - MIN) / root(s)),
        {"model:c_out:train": None, "model:c_out:eval": None},
    ),
    "the input is shifted": (
        lambda: Wrapper(Shifted()), {"model:c_in:train": None, "model:c_in:eval": None}
    ),
    "two at once": (
        lambda: Wrapper(noise=lambda s: s, scale=torch.ones_like), both(c_noise="RawSigmaNoise", c_in="NoInputScaling")
    ),
    "EDM's coefficients with sigma_data 1": (
        lambda: Wrapper(skip=lambda s: 1 / (s**2 + 1), out=lambda s: s / root(s, 1), scale=lambda s: 1 / root(s, 1)),
        both(
            c_skip="EdmCoefficients and OtherSigmaData",
            c_out="EdmCoefficients and OtherSigmaData",
            boundary="EdmCoefficients and OtherSigmaData",
            c_in="OtherSigmaData",
        ),
    ),
    "dropout is active in evaluation mode": (
        lambda: Wrapper(Always()), {"model:dropout": None, "model:deterministic": None}
    ),
    "x is changed": (InPlace, {"model:arguments": None}),
}  # fmt: skip


class Shifted(Network):
    """F whose caller adds a constant to its input."""

    def __call__(self, x: Tensor, c: Tensor) -> Tensor:
        value: Tensor = super().__call__(x + 0.1, c)
        return value


class Always(Network):
    """F with dropout in every mode."""

    def forward(self, x: Tensor, c: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.5), c, labels)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_model_fails_where_it_is_wrong_and_its_deviation_is_named(what: str) -> None:
    make, expected = WRONG[what]
    assert failed(make()) == expected


def test_several_deviations_are_findings_of_their_own_and_each_is_one_finding() -> None:
    found = [one for one in findings(audited(EvalOnly())) if one.fails]
    assert {one.deviations for one in found} == {("EdmCoefficients",), ("OtherSigmaMin",), ("TrainEvalMismatch",)}
    [edm_finding] = [one for one in found if one.deviations == ("EdmCoefficients",)]
    assert edm_finding.example == "in train(): c_out at sigma = 0.002: 0.002 where 0 is right"
    assert edm_finding.functions == ("model:c_out", "model:c_skip", "model:boundary")
    [other] = [one for one in found if one.deviations == ("OtherSigmaMin",)]
    assert other.example.endswith(": -0.001 where 0 is right (sigma_min = 0.003)")
    [modes] = [one for one in found if one.deviations == ("TrainEvalMismatch",)]
    assert modes.example == "c_out at sigma = 0.003: 0.003 in train(), 0 in eval()"


class ClippedSamples(Wrapper):
    """f that is clipped in evaluation mode."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        f = super().forward(x, sigma)
        return f if self.training else f.clamp(-1, 1)


def test_a_clip_in_evaluation_mode_is_a_note() -> None:
    assert failed(ClippedSamples()) == {}
    assert "in eval(): f is clipped to [-1, 1]" in text_of(ClippedSamples(), "model:clipping")


class Squashed(Network):
    """A network whose output its wrapper does not take as it is."""

    def __call__(self, *arguments: Any) -> Tensor:
        value: Tensor = super().__call__(*arguments)
        return value.tanh()


class Guided(Network):
    """A network that its wrapper calls twice."""

    def __call__(self, x: Tensor, c: Tensor) -> Tensor:
        value: Tensor = 2 * super().__call__(x, c) - super().__call__(x, c)
        return value


@pytest.mark.parametrize("network", [Squashed, Guided])
def test_coefficients_are_not_guessed_if_f_is_not_a_sum_of_x_and_f(network: type[Network]) -> None:
    assert failed(Wrapper(network())) == {}
    assert skipped(Wrapper(network())) >= {"model:c_skip", "model:c_out", "model:c_in", "model:c_noise"}
    assert set(failed(Wrapper(network(), **edm()))) == {"model:boundary:eval", "model:boundary:train", "model:near"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: Wrapper(noise=lambda s: (s.log() / 4).to(dtype)),
        lambda dtype: Wrapper(noise=lambda s: s.to(dtype).float().log() / 4),
        lambda dtype: Wrapper(scale=lambda s: (s.to(dtype) ** 2 + DATA**2).rsqrt()),
        lambda dtype: Wrapper(out=lambda s: (DATA * (s - MIN) / root(s)).to(dtype)),
    ],
)
def test_sixteen_bits_are_named(make: Callable[[torch.dtype], nn.Module], dtype: torch.dtype) -> None:
    found = [one for one in audited(make(dtype)) if one.status == "fail" and one.function.startswith("model:c_")]
    assert {one.deviation for one in found} == {"RoundedLevels"}
    assert all(f"(like {str(dtype).removeprefix('torch.')})" in one.message for one in found)


def test_a_coefficient_with_a_small_error_is_not_taken_for_a_rounded_one() -> None:
    model = Wrapper(noise=lambda s: s.log() / 4 * (1 + 2e-3 * s.log().cos()))
    assert failed(model) == {"model:c_noise:train": None, "model:c_noise:eval": None}


def test_a_wrapper_that_returns_its_model_s_value_is_not_taken_for_the_network() -> None:
    outer = Outer()
    outer.module = nn.DataParallel(Wrapper(noise=lambda s: s, scale=torch.ones_like, **edm()))
    deviations = dict.fromkeys(("c_skip", "c_out", "boundary"), "EdmCoefficients")
    assert failed(outer) == both(**deviations, c_noise="RawSigmaNoise", c_in="NoInputScaling")


def test_every_deviation_that_only_an_audit_shows_has_a_fix() -> None:
    assert [name for name in deviation_book() if not fix_of(name)] == []


def test_a_model_that_fails_in_one_mode_only_is_still_checked_in_the_other() -> None:
    class InTraining(Wrapper):
        def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
            if self.training:
                raise RuntimeError("not while training")
            return super().forward(x, sigma)

    found = failed(InTraining().eval())
    assert found == {"model:boundary:train": None}


def test_modes_parameters_and_statistics_of_the_model_are_as_before() -> None:
    model = with_batch_norm().train()
    model.network.last.eval()  # type: ignore[union-attr]
    with_zeros = with_a_zero_output()
    for one in (model, with_zeros):
        modes = [part.training for part in one.modules()]
        state = {name: value.clone() for name, value in one.state_dict().items()}
        torch.manual_seed(3)
        before = torch.get_rng_state()
        audited(one)
        assert torch.equal(torch.get_rng_state(), before)
        assert [part.training for part in one.modules()] == modes
        assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())


# Labels, dropout, embedding.


class Labelled(nn.Module):
    """f(x, sigma, labels) whose network takes labels in a form."""

    def __init__(self, uses: bool = True, needs: bool = False) -> None:
        super().__init__()
        self.network, self.uses, self.needs = Network(classes=4), uses, needs

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.needs and labels is None:
            raise TypeError("no labels")
        given = labels if self.uses else None
        return formulas.boundary_parameterization(lambda x, c: self.network(x, c, given), x, sigma)


class OneHot(Labelled):
    """f(x, sigma, class_labels), which are one-hot vectors."""

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None) -> Tensor:
        if class_labels is not None:
            assert class_labels.shape == (len(x), 4)
            class_labels = class_labels.argmax(1)
        return super().forward(x, sigma, class_labels)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Labelled, {"model:labels": "pass"}),
        (OneHot, {"model:labels": "pass"}),
        (lambda: Labelled(needs=True), {"model:labels": "pass", "model:labels:none": "fail"}),
        (lambda: OneHot(needs=True), {"model:labels": "pass", "model:labels:none": "fail"}),
        (lambda: Labelled(uses=False), {"model:labels": "fail"}),
        (Wrapper, {"model:labels": "skipped"}),
    ],
)
def test_labels(make: Callable[[], nn.Module], expected: dict[str, str]) -> None:
    found = audited(make(), labels=4)
    assert {one.id: one.status for one in found if "labels" in one.id} == expected
    assert {one.id for one in found if one.status == "pass"} >= COEFFICIENTS


def text_of(target: Any, name: str, **options: Any) -> str:
    [found] = [one for one in audited(target, **options) if one.id == name]
    return found.message


def test_places_of_dropout_are_named_by_their_size() -> None:
    assert text_of(Wrapper(Network(dropout=0.3)), "model:dropout_sites").endswith("dropout 0.3 at 8x8 (1)")
    assert not [one for one in audited(Wrapper()) if one.id == "model:dropout_sites"]
    assert text_of(Wrapper(Always()), "model:dropout").startswith(
        "model:dropout: in eval() there is dropout: 0.5 at 8x8"
    )


@pytest.mark.parametrize(("scale", "low", "high"), [(0.02, 1e-7, 1e-5), (16.0, 0.01, 1.0)])
def test_the_sensitivity_of_the_embedding_is_measured(scale: float, low: float, high: float) -> None:
    frequencies = scale * torch.randn(64, generator=torch.Generator().manual_seed(0))

    class Fourier(nn.Module):
        def forward(self, c: Tensor) -> Tensor:
            angles = 2 * math.pi * c[:, None] * frequencies
            return torch.cat([angles.cos(), angles.sin()], 1)

    class Embedded(Network):
        def __init__(self) -> None:
            super().__init__()
            self.fourier = Fourier()

        def forward(self, x: Tensor, c: Tensor, labels: Tensor | None = None) -> Tensor:
            return super().forward(x, self.fourier(c).mean(1))

    text = text_of(Wrapper(Embedded()), "model:sensitivity")
    worst = float(text.split("up to ")[1].split(",")[0])
    levels = formulas.sigma_grid(1281)[[0, 1, 320, 321, 640, 641, 959, 960, 1279, 1280]]
    vectors = Fourier()(levels.log() / 4)
    cosines = (vectors[::2] * vectors[1::2]).sum(1) / 64
    assert worst == pytest.approx(float(1 - cosines.min()), rel=0.1)
    assert low < worst < high


# Builders, errors, the command.


def test_a_class_or_a_function_without_arguments_is_a_builder() -> None:
    assert is_builder(Wrapper)
    assert is_builder(lambda: Wrapper())
    assert is_builder(lambda seed=0, device="cpu": Wrapper())
    assert not is_builder(Wrapper())
    assert not is_builder(lambda x, sigma: x)
    assert not is_builder(lambda *arguments: arguments[0])


def test_forms_of_levels_are_tried_from_the_usual_one_on() -> None:
    assert level_forms((2,)) == ("[B]", "[B, 1]", "scalar", "float")


def test_a_builder_gets_the_checkpoint_and_may_return_an_object_with_a_model(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("0.5")

    def load(path: Path) -> SimpleNamespace:
        return SimpleNamespace(model=Wrapper(out=lambda s: float(path.read_text()) * (s - MIN) / root(s)))

    assert failed(load, checkpoint=tmp_path / "weights") == {}
    (tmp_path / "weights").write_text("0.25")
    assert failed(load, checkpoint=tmp_path / "weights") == both(c_out="HalfCOut")


def raising(*_: object) -> Tensor:
    raise RuntimeError("of\nmine")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            lambda x, sigma: raising(),
            "TARGET: expected f(x, sigma) for x of shape [11, 3, 8, 8], got RuntimeError: of mine.",
        ),
        (
            lambda x, sigma: x[:, :1],
            "got f returned a tensor of shape [11, 1, 8, 8], should be a tensor of shape [11, 3, 8, 8].",
        ),
        (lambda x, sigma: None, "got f returned a NoneType"),
        (lambda: raising(), "TARGET(): RuntimeError: of mine. TARGET must be f or a builder of f."),
        (lambda: 3, "TARGET(): expected f, or an object with f as its attribute model, got int. Return f(x, sigma)."),
    ],
)
def test_a_target_that_is_not_a_model_is_rejected(target: Any, message: str) -> None:
    with pytest.raises(TargetError) as rejected:
        audited(target)
    assert message in str(rejected.value)
    assert "\n" not in str(rejected.value)


MODULE = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, sigma_min=0.0):
        super().__init__()
        self.network, self.sigma_min = nn.Conv2d(3, 3, 3, padding=1), sigma_min

    def forward(self, x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1)
        variance, above = sigma**2 + 0.25, sigma - self.sigma_min
        value = self.network(x / variance.sqrt() + 0 * sigma)
        return 0.25 / (above**2 + 0.25) * x + 0.5 * above / variance.sqrt() * value


def right():
    return Model(0.002)
"""


def test_the_command_names_the_coefficient_with_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    command = ["audit", "model", f"{tmp_path / 'mine.py'}:Model", "--shape", "3,8,8"]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "e.g.     in eval(): c_out at sigma = 0.002: 0.002 where 0 is right" in out
    assert "also in: locuslab/ect@4311059" in out
    assert "float32, torch arrays on cpu" in out
    assert "not counted: 2 checks: F does not get one number per example" in out
    assert out.splitlines()[-1].startswith("WRONG  3 of ")


def test_the_command_waives_a_coefficient_and_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    names = ("model:c_out", "model:c_skip", "model:boundary")
    (tmp_path / "w.toml").write_text("".join(f'[[waiver]]\nid = "{name}"\nreason = "EDM"\n' for name in names))
    target = f"{tmp_path / 'mine.py'}:"
    assert main(["audit", "model", f"{target}Model", "--shape", "3,8,8", "--waivers", str(tmp_path / "w.toml")]) == 0
    assert main(["audit", "model", f"{target}right", "--shape", "3,8,8"]) == 0
    assert main(["audit", "model", f"{target}right", "--shape", "3,8,8", "--waivers", str(tmp_path / "w.toml")]) == 1
    assert "model:c_out: waived, but it does not fail; remove the waiver" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shape", "3x8x8"], "--shape: expected positive integers such as 3,32,32, got 3x8x8"),
        (["--labels", "1"], "--labels: expected 0, or 2 classes and more, got 1"),
        (["--sigma-min", "5"], "--sigma-min: expected a level > 0 and far below --sigma-max, got 5 and 80"),
        (["--sigma-data", "0"], "--sigma-data: expected a number > 0, got 0.0"),
        (["--checkpoint", "/nowhere"], "--checkpoint: expected a file or a folder, got /nowhere"),
        (["--dtype", "float16"], "--dtype: expected one of float32, float64, bfloat16, got float16"),
        (["--device", "nowhere"], "--device: expected a device of this machine, got nowhere"),
        ([], "TARGET: expected f(x, sigma) for x of shape [11, 3, 32, 32], got"),
    ],
)
def test_a_wrong_command_ends_with_one_line_and_status_2(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text("def f(x, sigma):\n    raise ValueError('no')\n")
    assert main(["audit", "model", f"{tmp_path / 'mine.py'}:f", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
