"""Each deviation against an independent form, and the step without a deviation against the trainer.

Oracle: tests/support/wrong_implementations.py for deviations that `ict_ref.verify` names, and hand computation.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.support.wrong_implementations import WRONG
from torch import Tensor

from ict_ref.config import Config, minimal
from ict_ref.data.dataset import load
from ict_ref.evaluate.evaluator import Evaluator
from ict_ref.experiments.deviation_costs import DigitScorer, small_digits
from ict_ref.experiments.known_deviations import (
    DEVIATIONS,
    RIGHT,
    KnownDeviation,
    pair,
    parameterization,
    right_pair,
)
from ict_ref.experiments.step_parts import PartedRun, StepParts
from ict_ref.formulas import (
    boundary_parameterization,
    consistency_training_loss,
    inverse_gap_weights,
    sigma_grid,
    squared_l2,
)
from ict_ref.sample.images import images
from ict_ref.training.trainer import Trainer
from ict_ref.verify.vectors.load import deviations

DIGITS = load(minimal().data)
NAMED = {each.name: each for each in DEVIATIONS}


def config(**method: object) -> Config:
    """Return a run of three stages of the curriculum in six updates."""
    start = minimal()
    train = replace(start.train, steps=6, batch_size=8, noise_shards=1)
    return replace(start, train=train, method=replace(start.method, s0=10, s1=40, **method))  # type: ignore[arg-type]


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def after(deviation: KnownDeviation, updates: int = 3) -> tuple[list[float], Tensor, Tensor]:
    """Return the losses, the student's weights and the EMA weights after some updates."""
    run, losses = PartedRun(config(), DIGITS.train, deviation.parts), []
    for _ in range(updates):
        run.update()
        losses.append(float(run.loss.detach()))
    return losses, weights(run.state.student), weights(run.state.ema)


@pytest.fixture(scope="module")
def right() -> tuple[list[float], Tensor, Tensor]:
    return after(RIGHT)


@pytest.mark.parametrize("method", [{}, {"mu0": 0.9}], ids=["student as teacher", "averaged teacher"])
def test_without_a_deviation_the_step_is_the_trainers(method: dict[str, object]) -> None:
    trainer, run = Trainer(config(**method), DIGITS.train), PartedRun(config(**method), DIGITS.train, RIGHT.parts)
    for _ in range(3):
        trainer.update()
        run.update()
        assert torch.equal(run.loss, trainer.loss)
    assert torch.equal(weights(run.state.student), weights(trainer.student))
    assert torch.equal(weights(run.state.ema), weights(trainer.ema))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", NAMED)
def test_every_deviation_changes_the_weights(name: str, right: tuple[list[float], Tensor, Tensor]) -> None:
    losses, student, ema = after(NAMED[name])
    assert not torch.equal(ema, right[2])
    assert torch.equal(student, right[1]) == (name == "EmaFirst")
    if name == "EmaFirst":
        assert losses == right[0]


def test_every_deviation_has_a_name_of_its_own_and_names_that_verify_has() -> None:
    assert len(NAMED) == len(DEVIATIONS)
    of_verify = [name for each in DEVIATIONS for name in each.of_verify]
    assert len(set(of_verify)) == len(of_verify)
    assert set(of_verify) <= set(deviations())


def network(scaled: Tensor, noise: Tensor) -> Tensor:
    return torch.sin(3 * scaled) + noise.reshape(-1, 1, 1, 1)


GENERATOR = torch.Generator().manual_seed(5)
X, Y, Z = (torch.randn(4, 1, 8, 8, generator=GENERATOR, dtype=torch.float64) for _ in range(3))
SIGMA = torch.tensor([0.002, 0.03, 1.5, 80.0], dtype=torch.float64)


def f_of(deviation: KnownDeviation) -> Tensor:
    return deviation.parts.parameterization(network, X, SIGMA, sigma_min=0.002, sigma_data=0.5)


def column(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


def by_hand(**replaced: Any) -> Tensor:
    """Return f with some of its four coefficients replaced."""
    s = SIGMA
    root = (s**2 + 0.25).sqrt()
    right = {
        "skip": 0.25 / ((s - 0.002) ** 2 + 0.25),
        "out": 0.5 * (s - 0.002) / root,
        "scale": 1 / root,
        "noise": s.log() / 4,
    }
    c = right | replaced
    return column(c["skip"]) * X + column(c["out"]) * network(column(c["scale"]) * X, c["noise"])


def test_without_a_replaced_coefficient_f_is_that_of_the_formulas() -> None:
    f = parameterization().parameterization(network, X, SIGMA, sigma_min=0.002, sigma_data=0.5)
    torch.testing.assert_close(f, boundary_parameterization(network, X, SIGMA), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RawSigma", by_hand(noise=SIGMA)),
        ("ScaledNoise", by_hand(noise=250 * SIGMA.log())),
        ("NoInputScaling", by_hand(scale=torch.ones(4))),
        ("SquaredCIn", by_hand(scale=WRONG["SquaredCIn"](SIGMA))),
        ("EdmSkip", by_hand(skip=WRONG["EdmSkip"](SIGMA))),
        ("EdmCoefficients", WRONG["EdmCoefficients"](network, X, SIGMA)),
        ("DiffusersScalings", by_hand(skip=WRONG["EdmSkip"](SIGMA), out=WRONG["DiffusersScalings"](SIGMA))),
        ("ClampedOutput", by_hand().clamp(-1, 1)),
    ],
)
def test_a_deviation_of_f_is_the_one_of_its_name(name: str, expected: Tensor) -> None:
    torch.testing.assert_close(f_of(NAMED[name]), expected, rtol=1e-10, atol=1e-10)


SIGMAS = sigma_grid(11)
INDEX = torch.tensor([0, 3, 9, 9])
WEIGHTS = inverse_gap_weights(SIGMAS)


def student(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.sin(x) * column(sigma)


def teacher(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.cos(x) + column(sigma)


Loss = Callable[..., Tensor]


def loss_of(loss: Loss) -> Tensor:
    return loss(student, teacher, X, Z, INDEX, SIGMAS, distance=squared_l2, weights=WEIGHTS)


def test_the_right_pair_has_the_loss_of_the_formulas() -> None:
    torch.testing.assert_close(loss_of(pair(right_pair).loss), loss_of(consistency_training_loss), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["SameNoise", "SwappedLevels", "MultiplicativeNoise"])
def test_a_deviation_of_the_pair_is_the_one_of_its_name(name: str) -> None:
    torch.testing.assert_close(loss_of(NAMED[name].parts.loss), loss_of(WRONG[name]), rtol=1e-12, atol=0)


def test_a_teacher_at_the_higher_level_gets_the_less_noisy_image() -> None:
    low, high = SIGMAS[INDEX], SIGMAS[INDEX + 1]
    expected = student(X + column(high) * Z, high) - teacher(X + column(low) * Z, high)
    got = loss_of(NAMED["TeacherAtHigherLevel"].parts.loss)
    torch.testing.assert_close(got, WEIGHTS[INDEX] * expected.square().sum((1, 2, 3)), rtol=1e-12, atol=0)


def test_noise_that_is_not_shared_is_that_of_the_next_example() -> None:
    low, high = SIGMAS[INDEX], SIGMAS[INDEX + 1]
    other = torch.stack([Z[3], Z[0], Z[1], Z[2]])
    expected = student(X + column(high) * Z, high) - teacher(X + column(low) * other, low)
    got = loss_of(NAMED["NoiseNotShared"].parts.loss)
    torch.testing.assert_close(got, WEIGHTS[INDEX] * expected.square().sum((1, 2, 3)), rtol=1e-12, atol=0)


def test_only_the_gradient_through_the_teacher_passes_through_it() -> None:
    for name in ("TeacherGradient", "NoiseNotShared", "SameNoise", "SwappedLevels", "TeacherAtHigherLevel"):
        scale = torch.ones(4, 1, 1, 1, dtype=torch.float64, requires_grad=True)
        given = (lambda x, _: x, lambda x, _, scale=scale: scale * x)
        loss = NAMED[name].parts.loss(*given, X, Z, INDEX, SIGMAS, distance=squared_l2, weights=WEIGHTS)
        assert loss.requires_grad == (name == "TeacherGradient"), name
    value = loss_of(NAMED["TeacherGradient"].parts.loss)
    torch.testing.assert_close(value, loss_of(consistency_training_loss), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Elementwise", WRONG["Elementwise"](X, Y, c=0.00054 * 8)),
        ("HuberOverRoot", (((X - Y) ** 2).sum((1, 2, 3)) + 0.00432**2).sqrt() / 8 - 0.00054),
        ("UnsquaredNorm", ((X - Y) ** 2).sum((1, 2, 3)).sqrt()),
        ("Constant10", (((X - Y) ** 2).sum((1, 2, 3)) + 0.0432**2).sqrt() - 0.0432),
        ("Constant50", (((X - Y) ** 2).sum((1, 2, 3)) + 0.216**2).sqrt() - 0.216),
    ],
)
def test_a_deviation_of_the_distance_is_the_one_of_its_name(name: str, expected: Tensor) -> None:
    parts = NAMED[name].parts
    torch.testing.assert_close(parts.distance(parts.configure(config()), 64)(X, Y), expected, rtol=1e-10, atol=0)


def levels_of(name: str, step: int) -> tuple[int, Tensor, Tensor]:
    parts = NAMED[name].parts
    found = parts.levels(step, parts.configure(config()))
    return len(found.sigmas), found.pmf, found.weights


def test_a_deviation_of_the_curriculum_changes_n_alone() -> None:
    # With K = 6 and 10 to 40 intervals N doubles after 2 updates each.
    assert [levels_of("TeacherEma", step)[0] for step in range(6)] == [11, 11, 21, 21, 41, 41]
    assert [levels_of("OneLevelFewer", step)[0] for step in range(6)] == [10, 10, 20, 20, 40, 40]
    assert [levels_of("CurriculumStays", step)[0] for step in range(6)] == [11] * 6
    assert [levels_of("CurriculumOfImages", step)[0] for step in range(6)] == [11, *[41] * 5]
    for name in ("OneLevelFewer", "CurriculumStays", "CurriculumOfImages"):
        n, pmf, found = levels_of(name, 5)
        sigmas = sigma_grid(n)
        torch.testing.assert_close(pmf, WRONG["MeanSign"](sigmas, p_mean=1.1), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found, 1 / sigmas.diff(), rtol=1e-9, atol=0)


def test_a_deviation_of_the_probabilities_leaves_the_weights() -> None:
    p = levels_of("TeacherEma", 0)[1]
    expected = {
        "UniformPmf": torch.full((10,), 0.1, dtype=torch.float64),
        "SoftmaxPmf": p.exp() / p.exp().sum(),
        "MirroredPmf": WRONG["MirroredPmf"](SIGMAS),
        "MeanSign": WRONG["MeanSign"](SIGMAS),
    }
    for name, pmf in expected.items():
        _, got, found = levels_of(name, 0)
        torch.testing.assert_close(got, pmf, rtol=1e-9, atol=1e-12)
        assert torch.equal(found, WEIGHTS)


def test_a_deviation_of_the_weights_leaves_the_probabilities() -> None:
    p = levels_of("TeacherEma", 0)[1]
    for name, expected in {
        "NextWeights": WEIGHTS[[1, 2, 3, 4, 5, 6, 7, 8, 9, 9]],
        "UniformWeights": torch.ones(10),
    }.items():
        _, pmf, found = levels_of(name, 0)
        assert torch.equal(pmf, p)
        assert torch.equal(found, expected.double())
    # As `ict_ref.verify` has it, where the weight is looked up one interval higher.
    got = consistency_training_loss(
        student, teacher, X, Z, INDEX, SIGMAS, distance=squared_l2, weights=levels_of("NextWeights", 0)[2]
    )
    torch.testing.assert_close(got, loss_of(WRONG["UpperLevelWeights"]), rtol=1e-12, atol=0)


def test_images_from_0_to_1_are_sampled_as_such() -> None:
    parts = NAMED["UnitRange"].parts
    ends = torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    assert parts.encode(ends).flatten().tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(parts.decode(parts.encode(ends)), ends)


def test_masks_that_are_not_shared_are_those_of_other_examples() -> None:
    run = PartedRun(config(), DIGITS.train, RIGHT.parts)
    ((microbatch, _),) = run.state.microbatches.of_step(0)
    noise = microbatch.noise
    own = NAMED["UnsharedDropout"].parts.teacher_noise(noise)
    assert any(not bool(mask.all()) for mask in noise.masks)
    for mask, other in zip(noise.masks, own.masks, strict=True):
        assert torch.equal(other[1:], mask[:-1])
        assert torch.equal(other[0], mask[-1])


def test_ema_weights_of_a_swapped_update_do_not_move_and_pull_the_student_back() -> None:
    run = PartedRun(config(), DIGITS.train, NAMED["SwappedEma"].parts)
    reference = PartedRun(config(), DIGITS.train, RIGHT.parts)
    start = weights(run.state.student)
    for each in (run, reference):
        each.update()
    assert torch.equal(weights(run.state.ema), start)
    decay = config().train.ema_decays[0]
    expected = decay * weights(reference.state.student) + (1 - decay) * start
    torch.testing.assert_close(weights(run.state.student), expected)


def test_samples_are_those_of_the_engine_for_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    run = PartedRun(config(), DIGITS.train, RIGHT.parts)
    run.update()
    labels = torch.tensor([3, 1, 4])
    drawn = torch.linspace(-2, 2, 3 * 64).reshape(1, 3, 1, 8, 8)

    class Fixed:
        def standard_normal(self, shape: tuple[int, ...], dtype: object) -> Any:
            return drawn.reshape(shape).numpy()

    monkeypatch.setattr("ict_ref.experiments.step_parts.stream", lambda *_: Fixed())
    monkeypatch.setattr("ict_ref.sample.images.noise", lambda *_: drawn[0])
    expected = images(run.state.ema, labels, [80.0], count=3, event=(1, 8, 8), seed=0)
    assert torch.equal(run.samples(labels), expected)
    # Deviations of f and of the range of images are in the sampler too.
    negative = PartedRun(config(), DIGITS.train, StepParts(decode=lambda x: -x))
    negative.state.ema.load_state_dict(run.state.ema.state_dict())
    apart = negative.samples(labels).int() + expected.int() - 255
    assert int(apart.abs().max()) <= 1
    scaled = PartedRun(config(), DIGITS.train, NAMED["NoInputScaling"].parts)
    scaled.state.ema.load_state_dict(run.state.ema.state_dict())
    assert not torch.equal(scaled.samples(labels), expected)


def test_scores_are_those_of_the_evaluator() -> None:
    held_out = DIGITS.held_out
    made = DIGITS.train.evenly(599)
    found = DigitScorer(held_out).scores(made.pixels, made.labels)
    expected = Evaluator(held_out).score("", made.pixels, made.labels)
    assert found.frechet_distance == pytest.approx(expected.frechet_distance, rel=1e-6)
    assert (found.accuracy, found.recall, found.precision) == pytest.approx(
        (expected.accuracy, expected.recall, expected.precision), abs=1e-12
    )


def test_the_constant_is_that_of_digits() -> None:
    assert math.prod(DIGITS.train.event) == 64
    assert small_digits(9, 3).train.steps == 9
    assert small_digits(9, 3).train.seed == 3
