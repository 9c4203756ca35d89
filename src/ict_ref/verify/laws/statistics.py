"""Laws of the statistics that compare two sets of examples."""

import torch
from torch import Tensor

from ict_ref.verify.checks.law import Function, Laws, close, given, law, needs, rotation, tolerance
from ict_ref.verify.laws import strategies as some


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance."""
    return x.mean(0), x.T.cov().reshape(x.shape[1], x.shape[1])


def frechet(f: Function, real: Tensor, fake: Tensor) -> float:
    """Return the distance of the moments of two sets."""
    (mean1, cov1), (mean2, cov2) = moments(real), moments(fake)
    return float(f(mean1=mean1, cov1=cov1, mean2=mean2, cov2=cov2))


@law("frechet_distance", needs=("float32",))
@given(real=some.feature_sets, fake=some.feature_sets)
def is_symmetric_and_0_for_equals(f: Function, real: Tensor, fake: Tensor) -> None:
    """FD(p, q) = FD(q, p) >= 0 = FD(p, p), also where there are fewer examples than features."""
    there, size = frechet(f, real, fake), float(real.square().max() + fake.square().max())
    needs(there >= -tolerance(1e-12) * size, f"FD = {there}")
    close(frechet(f, fake, real), there, rtol=1e-7, atol=1e-7 * size)
    close(frechet(f, real, real), 0.0, atol=1e-6 * size, what="FD(p, p) =")


@law("frechet_distance", needs=("float32",))
@given(real=some.feature_sets, fake=some.feature_sets, seed=some.seeds)
def does_not_see_motions(f: Function, real: Tensor, fake: Tensor, seed: int) -> None:
    """FD is the same after both sets are rotated and moved alike."""
    q = rotation(real.shape[1], seed)
    size = float(real.square().max() + fake.square().max())
    close(frechet(f, real @ q + q[0], fake @ q + q[0]), frechet(f, real, fake), rtol=1e-6, atol=1e-6 * size)


@law("frechet_distance", needs=("float32",))
@given(real=some.feature_sets, seed=some.seeds)
def is_the_sum_over_common_axes(f: Function, real: Tensor, seed: int) -> None:
    """For covariances with common axes: the sum of (m1 - m2)^2 + (s1 - s2)^2 over the axes."""
    s1, s2, m = real[0].abs(), real[1].abs(), real[2]
    q = rotation(len(m), seed)
    got = f(mean1=q @ m, cov1=q @ (s1**2).diag() @ q.T, mean2=torch.zeros_like(m), cov2=q @ (s2**2).diag() @ q.T)
    close(got, (m**2 + (s1 - s2) ** 2).sum(), rtol=1e-5, atol=1e-5)


@law("frechet_distance", needs=("float32",))
@given(real=some.feature_sets, fake=some.feature_sets, fraction=some.fractions)
def is_the_closed_form_of_two_axes(f: Function, real: Tensor, fake: Tensor, fraction: float) -> None:
    """2 x 2: tr (C1 C2)^(1/2) = sqrt(tr(C1 C2) + 2 sqrt(det C1 det C2)), to all digits of float64."""
    c1, c2 = (
        torch.tensor([[1.1 + a, b], [b, 0.7 + a]], dtype=torch.float64)
        for a, b in ((fraction, 0.3), (1 - fraction, -0.1))
    )
    mean1, mean2 = real.new_tensor([0.1, 0.2]), fake.new_tensor([0.3, 0.4 + fraction])
    root = (torch.trace(c1 @ c2) + 2 * (torch.det(c1) * torch.det(c2)).sqrt()).sqrt()
    expected = (mean1 - mean2).square().sum() + torch.trace(c1) + torch.trace(c2) - 2 * root
    close(f(mean1=mean1, cov1=c1, mean2=mean2, cov2=c2), expected, rtol=1e-11, atol=1e-13)


@law("precision_recall", needs=("float64",), kind="precision")
@given(fraction=some.fractions)
def tells_small_distances_apart_far_from_the_origin(f: Function, fraction: float) -> None:
    """Points a hundred-thousandth apart beside 1 000: ||a||^2 - 2 a . b + ||b||^2 loses their distance."""
    line = torch.zeros(40, 2, dtype=torch.float64)
    line[:, 0] = torch.arange(40) * 1e-5
    line = line + 1000 + fraction
    above = line + torch.tensor([0.0, 1.5e-5], dtype=torch.float64)
    close(list(map(float, f(real=line, fake=above, k=1))), [0.0, 0.0], what="for a line beside another")


@law("precision_recall", needs=("float32",))
@given(real=some.feature_sets, fake=some.feature_sets, k=some.neighbours)
def is_recall_the_other_way(f: Function, real: Tensor, fake: Tensor, k: int) -> None:
    """precision(a, b) = recall(b, a), both are fractions, and both are 1 for equal sets."""
    precision, recall = map(float, f(real=real, fake=fake, k=k))
    needs(0 <= precision <= 1 and 0 <= recall <= 1, f"precision {precision}, recall {recall}")
    other, one = map(float, f(real=fake, fake=real, k=k))
    close([one, other], [precision, recall], rtol=1e-12, what="the other way")
    close(list(map(float, f(real=real, fake=real, k=k))), [1.0, 1.0], what="for equal sets")


@law("precision_recall", needs=("float32",))
@given(real=some.feature_sets, fake=some.feature_sets, k=some.neighbours)
def grow_with_k_and_end_far_away(f: Function, real: Tensor, fake: Tensor, k: int) -> None:
    """A farther neighbour means more reach; sets that are far apart do not reach each other."""
    near, far = (list(map(float, f(real=real, fake=fake, k=m))) for m in (k, k + 1))
    needs(near[0] <= far[0] and near[1] <= far[1], f"{near} at k = {k} and {far} at k + 1")
    close(list(map(float, f(real=real, fake=fake + 1e3, k=k))), [0.0, 0.0], what="for sets far apart")


@law("inception_score", needs=("float32",))
@given(p=some.class_probabilities)
def lies_between_1_and_the_number_of_classes(f: Function, p: Tensor) -> None:
    """1 <= IS <= classes, and not above the number of examples either."""
    score = float(f(p=p))
    needs(
        1 - tolerance(1e-12) <= score <= min(p.shape) * (1 + tolerance(1e-12)),
        f"IS = {score} of {list(p.shape)} examples and classes",
    )


@law("inception_score", needs=("float32",))
@given(p=some.class_probabilities, m=some.small_integers)
def sees_no_order_and_no_copies(f: Function, p: Tensor, m: int) -> None:
    """Examples and classes in another order, and each example several times: the same score."""
    close(f(p=p.flip(0).flip(1).repeat(m, 1)), f(p=p), rtol=1e-10)


@law("inception_score", needs=("float32",))
@given(m=some.small_integers)
def is_the_number_of_classes_for_certain_examples(f: Function, m: int) -> None:
    """Every class equally often, each time for sure: IS = classes; all the same: IS = 1."""
    certain = torch.eye(m, dtype=torch.float64)
    close(f(p=certain), float(m), rtol=1e-12)
    close(f(p=certain[:1].expand(5, -1)), 1.0, rtol=1e-12)


@law("kernel_distance", needs=("float32",))
@given(real=some.feature_sets, fake=some.feature_sets, seed=some.seeds)
def is_symmetric_and_does_not_see_rotations(f: Function, real: Tensor, fake: Tensor, seed: int) -> None:
    """KD(a, b) = KD(b, a) = KD(a Q, b Q) for orthogonal Q."""
    q, size = rotation(real.shape[1], seed), float(1 + real.square().max() + fake.square().max()) ** 3
    there = f(real=real, fake=fake)
    close(f(real=fake, fake=real), there, rtol=1e-9, atol=1e-11 * size)
    close(f(real=real @ q, fake=fake @ q), there, rtol=1e-8, atol=1e-11 * size)


@law("inception_score", needs=("float32",))
@given(m=some.small_integers)
def is_of_all_examples_at_once(f: Function, m: int) -> None:
    """One example per class, 10 m times each, has the score of the whole set, not a mean over parts."""
    p = torch.eye(4, dtype=torch.float64).repeat_interleave(10 * m, dim=0)
    close(f(p=p), 4.0, rtol=1e-10)


@law("kernel_distance", needs=("float32",))
@given(m=some.small_integers)
def sees_every_example(f: Function, m: int) -> None:
    """The contribution of one example far from n others to the mean kernel is 2 / n, for every n."""
    count = 120 + m
    real = torch.zeros(count, 2, dtype=torch.float64)
    real[-1] = 3.0
    fake = torch.zeros(4, 2, dtype=torch.float64)
    # k(0, 0) = 1 = k(0, v), so all means are 1: k(v, v) of an example with itself does not count.
    close(f(real=real, fake=fake), 0.0, rtol=0.0, atol=1e-9)
    fake[0] = 3.0
    expected = -2 * (10.0**3 - 1) / (4 * count)
    close(f(real=real, fake=fake), expected, rtol=1e-9)


@law("kernel_distance", needs=("float32",))
@given(real=some.feature_sets, fraction=some.fractions)
def grows_with_the_third_power_of_a_shift(f: Function, real: Tensor, fraction: float) -> None:
    """Two points at 0 against two at v: 1 + (v . v / d + 1)^3 - 2."""
    zero, shift = torch.zeros(2, real.shape[1], dtype=torch.float64), 0.1 + 3 * fraction
    close(f(real=zero, fake=zero + shift), (shift**2 + 1) ** 3 - 1, rtol=1e-12)


@law("precision_recall", needs=("float32",))
@given(m=some.small_integers)
def reaches_as_far_as_its_neighbour_and_no_farther(f: Function, m: int) -> None:
    """Within reach is at the neighbour's distance too: whole numbers 0, ..., n against 1, ..., n + 1, of n + 1 all."""
    real = torch.arange(130.0 + m, dtype=torch.float64)[:, None]
    close(list(map(float, f(real=real, fake=real + 1, k=1))), [1.0, 1.0], what="for whole numbers moved by 1")
    missed = 1 - 1 / len(real)
    close(list(map(float, f(real=real, fake=real + 2, k=1))), [missed, missed], rtol=1e-12, what="moved by 2")


LAWS: tuple[Laws, ...] = (
    is_symmetric_and_0_for_equals,
    does_not_see_motions,
    is_the_sum_over_common_axes,
    is_the_closed_form_of_two_axes,
    tells_small_distances_apart_far_from_the_origin,
    is_recall_the_other_way,
    grow_with_k_and_end_far_away,
    lies_between_1_and_the_number_of_classes,
    sees_no_order_and_no_copies,
    is_the_number_of_classes_for_certain_examples,
    is_symmetric_and_does_not_see_rotations,
    is_of_all_examples_at_once,
    sees_every_example,
    grows_with_the_third_power_of_a_shift,
    reaches_as_far_as_its_neighbour_and_no_farther,
)
