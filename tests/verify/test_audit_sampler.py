"""The audit of a sampler finds errors of its noise, its levels and its samples, and only those."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ict_ref import formulas
from ict_ref.verify.__main__ import main
from ict_ref.verify.audit.options import SamplerOptions
from ict_ref.verify.audit.sampler import audit
from ict_ref.verify.checks.result import Result
from ict_ref.verify.report.finding import findings
from ict_ref.verify.report.report import graded
from ict_ref.verify.target.load import TargetError

MIN = 0.002
OWN = (80.0, 0.821)
F = Callable[..., Tensor]
Levels = Sequence[float] | Tensor


def root(sigma: float) -> float:
    return math.sqrt(max(sigma**2 - MIN**2, 0.0))


def sampler(
    *,
    factor: Callable[[float], float] = root,
    first: Callable[[float], float] = lambda sigma: sigma,
    normal: Callable[[tuple[int, ...]], Tensor] = torch.randn,
    given: Callable[[float], float] = lambda sigma: sigma,
    inner: Callable[[Tensor], Tensor] = lambda x: x,
    end: Callable[[Tensor], Tensor] = lambda x: x,
    own: tuple[float, ...] = OWN,
    use: Callable[[list[float]], list[float]] = lambda levels: levels,
) -> Callable[..., Tensor]:
    """Return a sampler that is right but for the changed parts."""

    def sample(f: F, shape: tuple[int, ...], sigmas: Levels = own) -> Tensor:
        x = torch.zeros(shape)
        for k, sigma in enumerate(use([float(sigma) for sigma in sigmas])):
            x = inner(x) + (factor(sigma) if k else first(sigma)) * normal(shape)
            x = f(x, torch.full((shape[0],), given(sigma)))
        return end(x)

    return sample


def audited(target: Any, **options: Any) -> list[Result]:
    return audit(target, SamplerOptions(**{"target": "x", "shape": "3,16,16", "batch": 32, **options}))


def failed(target: Any, **options: Any) -> dict[str, str | None]:
    found = graded(audited(target, **options), strict=False)
    return {one.id: one.deviation for one in found if one.status == "fail"}


def skipped(target: Any, **options: Any) -> set[str]:
    return {one.id for one in audited(target, **options) if one.status == "skipped"}


# Right samplers.


def by_formulas(f: F, shape: tuple[int, ...], sigmas: Tensor | None = None) -> Tensor:
    levels = torch.tensor(OWN, dtype=torch.float64) if sigmas is None else sigmas
    return formulas.multistep_sample(f, torch.randn(len(levels), *shape), levels)


def one_step(f: F, shape: tuple[int, ...]) -> Tensor:
    return f(80 * torch.randn(shape), torch.full((shape[0],), 80.0))


def with_scalar_levels(f: F, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    x = f(80 * torch.randn(shape, generator=generator), 80.0)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal(shape))
    return f(x + root(0.821) * z.float(), torch.tensor(0.821))


class Sampler:
    """A sampler that wants a module, in float64."""

    def __call__(self, f: nn.Module, shape: tuple[int, ...], *, sigmas: Tensor) -> Tensor:
        x = torch.zeros(shape, device=next(f.parameters()).device, dtype=torch.float64)
        f.eval()
        for k, sigma in enumerate(sigmas):
            x = x + (root(float(sigma)) if k else sigma) * torch.randn_like(x)
            x = f(x, sigma.reshape(1, 1, 1, 1).expand(len(x), 1, 1, 1))
        return x


RIGHT: dict[str, Callable[..., Tensor]] = {
    "a loop": sampler(),
    "the formulas": by_formulas,
    "one step": one_step,
    "levels as numbers": with_scalar_levels,
    "an object": Sampler(),
    "three steps down to sigma_min": sampler(own=(80.0, 0.821, MIN)),
    "samples in [0, 1]": sampler(end=lambda x: x / 2 + 0.5),
    "samples of 8 bits": sampler(end=lambda x: (127.5 * x + 127.5).round().clamp(0, 255).to(torch.uint8)),
    "clipped samples": sampler(end=lambda x: x.clamp(-1, 1)),
    "clipped at every step": sampler(inner=lambda x: x.clamp(-1, 1), end=lambda x: x.clamp(-1, 1)),
}


@pytest.mark.parametrize("what", RIGHT)
def test_a_right_sampler_passes(what: str) -> None:
    assert failed(RIGHT[what]) == {}


def test_a_right_sampler_passes_for_many_seeds() -> None:
    assert [seed for seed in range(100) if failed(sampler(), seed=seed, shape="3,8,8", batch=60)] == []


def test_what_the_paper_leaves_open_is_a_note() -> None:
    notes = {name: {one.id: one for one in audited(target) if one.status == "note"} for name, target in RIGHT.items()}
    assert set(notes["a loop"]) == {"sampler:calls"}
    assert notes["a loop"]["sampler:calls"].message.endswith(
        "2 calls of f at sigma = 80, 0.821; 3 calls of f at sigma = 80, 0.4, 0.003 as given"
    )
    every = notes["clipped at every step"]["sampler:clipping"]
    assert every.deviation == "ClampedSamples"
    assert "clipped before noise is added and at the end" in every.message
    assert "values are clipped at the end" in notes["clipped samples"]["sampler:clipping"].message
    assert "clipped at the end" in notes["samples of 8 bits"]["sampler:clipping"].message
    assert "samples are 0.5 times f's last value plus 0.5" in notes["samples in [0, 1]"]["sampler:range"].message


def test_a_value_that_shrinks_is_not_taken_for_a_clipped_one() -> None:
    [clipping] = [one for one in audited(sampler(inner=lambda x: 0.9 * x)) if one.id == "sampler:clipping"]
    assert clipping.status == "pass"


def test_what_the_levels_do_not_show_is_not_counted() -> None:
    assert skipped(sampler()) == set()
    assert skipped(one_step) == {"sampler:added_noise"}
    assert skipped(with_scalar_levels) == {"sampler:root"}
    assert skipped(Sampler(), sigmas=(80.0, 20.0)) == {"sampler:root"}


def test_given_levels_are_used() -> None:
    [calls] = [one.message for one in audited(sampler(), sigmas=(50.0, 1.0, 0.002)) if one.id == "sampler:calls"]
    assert calls == "sampler:calls: 3 calls of f at sigma = 50, 1, 0.002 as given"


# Wrong samplers.


def same_for_all_images(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(1, *shape[1:]).expand(shape)


def same_at_every_call(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def of_neighbours(shape: tuple[int, ...]) -> Tensor:
    z = torch.randn(shape)
    return (z + 0.3 * z.roll(1, -1)) / math.hypot(1, 0.3)


def halves(shape: tuple[int, ...]) -> Tensor:
    z = torch.randn(shape[0] // 2, *shape[1:])
    return torch.cat([z, -z])


def uniform(shape: tuple[int, ...]) -> Tensor:
    return (torch.rand(shape) - 0.5) * math.sqrt(12)


def trains(f: nn.Module, shape: tuple[int, ...]) -> Tensor:
    f.train()
    return one_step(f, shape)


def each_image_at_its_level(f: F, shape: tuple[int, ...]) -> Tensor:
    sigma = torch.linspace(80, 79, shape[0])
    return f(sigma.reshape(-1, 1, 1, 1) * torch.randn(shape), sigma)


def float32_grid(f: F, shape: tuple[int, ...]) -> Tensor:
    x = one_step(f, shape)
    sigma = torch.tensor(0.0019999)
    return f(x + (sigma**2 - MIN**2).sqrt() * torch.randn(shape), sigma)


def mixes(f: F, shape: tuple[int, ...]) -> Tensor:
    x = one_step(f, shape)
    return x.roll(1, 0)


WRONG: dict[str, tuple[Callable[..., Tensor], dict[str, str | None]]] = {
    "sigma is not rooted": (sampler(factor=lambda s: s), {"sampler:added_noise": "SigmaNotRooted"}),
    "sigma - sigma_min is the factor": (sampler(factor=lambda s: s - MIN), {"sampler:added_noise": None}),
    "noise is 5 % too weak": (sampler(factor=lambda s: 0.95 * root(s)), {"sampler:added_noise": None}),
    "noise is left at the end": (
        sampler(end=lambda x: x + 0.1 * torch.randn_like(x)),
        {"sampler:final_noise": "ResidualNoise"},
    ),
    "images are mixed at the end": (mixes, {"sampler:final_noise": None}),
    "the samples are another function of f's value": (sampler(end=lambda x: x**3), {"sampler:final_noise": None}),
    "the first input is z": (sampler(first=lambda _: 1.0), {"sampler:first_input": "UnscaledFirstNoise"}),
    "the first input is 50 z": (sampler(first=lambda _: 50.0), {"sampler:first_input": None}),
    "noise of one call for all images": (sampler(normal=same_for_all_images), {"sampler:independence": None}),
    "noise is the same at every call": (sampler(normal=same_at_every_call), {"sampler:independence": None}),
    "pixels are dependent": (sampler(normal=of_neighbours), {"sampler:independence": None}),
    "images are antithetic": (sampler(normal=halves), {"sampler:independence": None}),
    "noise is uniform": (sampler(normal=uniform), {"sampler:independence": None}),
    "noise depends on f's value": (
        sampler(inner=lambda x: 1.1 * x), {"sampler:independence": None}
    ),
    "levels ascend": (sampler(own=(80.0, 0.5, 0.821)), {"sampler:levels": None}),
    "the first level is not sigma_max": (sampler(own=(70.0, 0.821)), {"sampler:levels": None}),
    "given levels are not used": (sampler(use=lambda _: [80.0, 0.821]), {"sampler:levels": None}),
    "the last level is left out": (
        sampler(use=lambda levels: levels[:-1]), {"sampler:levels": None}
    ),
    "a level is 0": (
        sampler(own=(80.0, 0.821, 0.0)), {"sampler:levels": None}
    ),
    "f gets the level before": (
        sampler(given=lambda s: 2 * s),
        {"sampler:levels": None, "sampler:first_input": None, "sampler:added_noise": None},
    ),
    "f is in training mode": (trains, {"sampler:evaluation_mode": None}),
    "every image has its level": (each_image_at_its_level, {"sampler:levels": None}),
    "a root of a negative number": (float32_grid, {"sampler:levels": None, "sampler:finite": None}),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_sampler_fails_where_it_is_wrong(what: str) -> None:
    target, expected = WRONG[what]
    assert failed(target) == expected


def test_an_unrooted_level_is_found_where_it_matters_only() -> None:
    unrooted = sampler(factor=lambda s: s)
    # At 0.821 sigma and its root differ by 3e-6.
    assert failed(unrooted, sigmas=(80.0, 0.821)) == {}
    assert skipped(unrooted, sigmas=(80.0, 0.821)) == {"sampler:root"}
    [found] = [one for one in findings(audited(unrooted)) if one.fails]
    assert found.deviations == ("SigmaNotRooted",)
    assert found.example.startswith("the noise before f(x, 0.003) has standard deviation 0.00")
    assert found.example.endswith(" where 0.002236 is right")
    assert str(found.seen[0]).startswith("locuslab/ect@4311059")


# Errors and the command.


def raising(f: F, shape: tuple[int, ...]) -> Tensor:
    raise RuntimeError("of\nmine")


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (raising, {}, "TARGET: expected sample(f, shape) -> x, got RuntimeError: of mine. Adapt its arguments."),
        (lambda f, shape: None, {}, "TARGET: expected a tensor of shape [32, 3, 16, 16], got NoneType. Return the"),
        (lambda f, shape: torch.zeros(3), {}, "TARGET: expected a tensor of shape [32, 3, 16, 16], got [3]. Return"),
        (
            lambda f, shape: torch.cat([one_step(f, (1, *shape[1:])) for _ in range(shape[0])]),
            {},
            "got x of shape [1, 3, 16, 16] and 1 levels. Set --batch.",
        ),
        (one_step, {"sigmas": (80.0, 1.0)}, "--sigmas: expected a sampler with a parameter sigmas, got another."),
    ],
)
def test_a_target_that_is_not_a_sampler_is_rejected(target: Any, options: Any, message: str) -> None:
    with pytest.raises(TargetError) as rejected:
        audited(target, **options)
    assert message in str(rejected.value)
    assert "\n" not in str(rejected.value)


SAMPLER = """
import torch


def sample(f, shape, sigmas=(80.0, 0.821)):
    x = torch.zeros(shape)
    for sigma in map(float, sigmas):
        x = f(x + sigma * torch.randn(shape), torch.full((shape[0],), sigma))
    return x


def one_step(f, shape):
    return f(80.0 * torch.randn(shape), 80.0)


def idle(f, shape):
    return torch.zeros(shape)
"""


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("sample", 1, "noise of level sigma is added, not of sqrt(sigma^2 - sigma_min^2)"),
        ("one_step", 0, "not counted: 1 check: f is called once, so that noise is not added"),
        ("idle", 3, "the sampler did not call f"),
    ],
)
def test_the_command_ends_with_a_status(
    name: str, status: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(SAMPLER)
    assert main(["audit", "sampler", f"{tmp_path / 'mine.py'}:{name}", "--shape", "3,8,8"]) == status
    out, err = capsys.readouterr()
    assert err == ""
    assert text in out
    assert out.splitlines()[-1].endswith(f"status {status}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch", "1"], "--batch: expected 2 images and 10,000 values or more, got 1"),
        (["--batch", "9", "--shape", "3,4,4"], "--batch: expected 2 images and 10,000 values or more, got 9"),
        (["--sigmas", "80", "80"], "--sigmas: expected descending levels of --sigma-min or more, got 80 80"),
        (["--sigmas", "80", "0.001"], "--sigmas: expected descending levels of --sigma-min or more, got 80 0.001"),
        (["--shape", "0"], "--shape: expected positive integers such as 3,32,32, got 0"),
    ],
)
def test_a_wrong_option_ends_with_one_line_and_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "sampler", "torch:zeros", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
