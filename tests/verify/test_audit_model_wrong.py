"""The audit of a model finds its wrong coefficients, and only those."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.support.audited_models import (
    DATA,
    MIN,
    Always,
    Network,
    Outer,
    Wrapper,
    audited,
    both,
    column,
    failed,
    root,
    skipped,
    text_of,
    with_a_zero_output,
    with_batch_norm,
    with_levels,
)
from torch import Tensor, nn

from ict_ref.verify.checks.audited import deviation_book
from ict_ref.verify.report.finding import findings, fix_of


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
