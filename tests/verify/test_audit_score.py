"""The audit of a score finds errors of FID, KID, precision and recall, and only those."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.nn import functional

from ict_ref import formulas
from ict_ref.verify.__main__ import main
from ict_ref.verify.audit.options import ScoreOptions
from ict_ref.verify.audit.score.audit import audit
from ict_ref.verify.checks.result import Result
from ict_ref.verify.report.finding import findings, fix_of, known_deviations
from ict_ref.verify.report.report import graded
from ict_ref.verify.target.load import TargetError

IMAGES = {"shape": "3,8,8"}
FLOATS = {**IMAGES, "pixels": "-1,1"}

# Right scores, in several styles. None of them calls ict_ref.formulas but those that say so.


def moments(x: Any, ddof: int = 1) -> tuple[Any, Any]:
    x = np.asarray(x, dtype=np.float64)
    return x.mean(0), np.cov(x, rowvar=False, ddof=ddof)


def of_moments(m1: Any, c1: Any, m2: Any, c2: Any, eps: float = 1e-6) -> float:
    """The distance as pytorch-fid has it."""
    root = scipy.linalg.sqrtm(np.asarray(c1) @ np.asarray(c2))
    if not np.isfinite(root).all():
        root = scipy.linalg.sqrtm((c1 + eps * np.eye(len(c1))) @ (c2 + eps * np.eye(len(c2))))
    difference = np.asarray(m1) - np.asarray(m2)
    return float(difference @ difference + np.trace(c1) + np.trace(c2) - 2 * np.trace(np.real(root)))


def by_scipy(a: Any, b: Any) -> float:
    return of_moments(*moments(a), *moments(b))


def by_eigenvalues(a: Tensor, b: Tensor) -> Tensor:
    """The trace of the root from the eigenvalues of the product, as torchmetrics has it."""
    a, b = a.double(), b.double()
    c1, c2 = torch.cov(a.T), torch.cov(b.T)
    root = torch.linalg.eigvals(c1 @ c2).real.clamp_min(0).sqrt().sum()
    fid: Tensor = (a.mean(0) - b.mean(0)).square().sum() + c1.trace() + c2.trace() - 2 * root
    return fid


def by_singular_values(a: Tensor, b: Tensor) -> dict[str, float]:
    """The trace of the root is the sum of the singular values of the product of centred features."""
    a, b = a.double(), b.double()
    x, y = ((one - one.mean(0)) / (len(one) - 1) ** 0.5 for one in (a, b))
    root = torch.linalg.svdvals(x @ y.T).sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return {"fid": float(means + x.square().sum() + y.square().sum() - 2 * root)}


def by_formulas(a: Tensor, b: Tensor) -> Tensor:
    parts = [part for one in (a.double(), b.double()) for part in (one.mean(0), torch.cov(one.T))]
    return formulas.frechet_distance(*parts)


def features(images: Tensor, extractor: nn.Module, batch: int = 32) -> Tensor:
    with torch.no_grad():
        return torch.cat([extractor(one) for one in torch.split(images, batch)])


def of_images(images_a: Tensor, images_b: Tensor, extractor: nn.Module) -> float:
    return by_scipy(features(images_a, extractor), features(images_b, extractor))


def of_changed(change: Callable[[Tensor], Tensor], a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_images(change(a), change(b), extractor)


def of_scaled(real: Tensor, fake: Tensor, extractor: nn.Module) -> float:
    """Features of images in [-1, 1], the real set first, in batches of 7."""
    return by_scipy(*(features(x.float() / 127.5 - 1, extractor, 7) for x in (real, fake)))


def of_resized(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    larger = (functional.interpolate(x.float(), (20, 20), mode="bilinear", antialias=True) for x in (a, b))
    return by_scipy(*(features(x, extractor) for x in larger))


def to_bytes(x: Tensor) -> Tensor:
    return (127.5 * (x + 1) + 0.5).floor().clamp(0, 255).to(torch.uint8)


def of_samples(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_images(to_bytes(a), to_bytes(b), extractor)


def of_edm_samples(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    """Rounded as in EDM."""
    return of_changed(lambda x: (x * 127.5 + 128).clip(0, 255).to(torch.uint8), a, b, extractor)


def of_unit_samples(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    """Images in [0, 1], rounded as in torchvision's save_image."""
    return of_changed(lambda x: (x * 255 + 0.5).clamp(0, 255).to(torch.uint8).float() / 255, a, b, extractor)


def of_truncated(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_changed(lambda x: ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8), a, b, extractor)


def kernel(x: Any, y: Any) -> Any:
    return (x @ y.T / x.shape[1] + 1) ** 3


def mmd(a: Any, b: Any, of: Callable[[Any, Any], Any] = kernel, *, biased: bool = False) -> float:
    a, b = (np.asarray(one, dtype=np.float64) for one in (a, b))
    total = -2 * of(a, b).mean()
    for x in (a, b):
        k, n = of(x, x), len(x)
        total += k.mean() if biased else k[~np.eye(n, dtype=bool)].sum() / (n * (n - 1))
    return float(total)


def reaches(x: Any, k: int) -> Any:
    return np.sort(distances(x, x), axis=1)[:, k]


def distances(x: Any, y: Any) -> Any:
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))


def pair(fake: Any, reference: Any, k: int = 3) -> tuple[float, float]:
    fake, reference = (np.asarray(one, dtype=np.float64) for one in (fake, reference))
    between = distances(fake, reference)
    precision = (between <= reaches(reference, k)[None]).any(1).mean()
    return float(precision), float((between <= reaches(fake, k)[:, None]).any(0).mean())


def real_first(real_features: Any, fake_features: Any) -> tuple[float, float]:
    return pair(fake_features, real_features)


RIGHT: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "by SciPy": (by_scipy, {}),
    "by SciPy, of NumPy": (by_scipy, {"arrays": "numpy"}),
    "moments": (lambda m1, c1, m2, c2: of_moments(m1, c1, m2, c2), {"arrays": "numpy"}),
    "by eigenvalues": (by_eigenvalues, {}),
    "by singular values": (by_singular_values, {}),
    "by the formulas": (by_formulas, {}),
    "of images": (of_images, IMAGES),
    "of scaled images": (of_scaled, IMAGES),
    "of resized images": (of_resized, IMAGES),
    "of samples": (of_samples, FLOATS),
    "of samples as in EDM": (of_edm_samples, FLOATS),
    "of samples in [0, 1]": (of_unit_samples, {**IMAGES, "pixels": "0,1"}),
    "of truncated samples": (of_truncated, FLOATS),
    "KID": (lambda a, b: mmd(a, b), {"metric": "kid"}),
    "KID times 1000": (lambda a, b: 1000 * mmd(a, b), {"metric": "kid"}),
    "precision and recall": (lambda a, b: pair(a, b), {"metric": "precision-recall"}),
    "the real set first": (real_first, {"metric": "precision-recall"}),
    "five neighbours": (lambda a, b: pair(a, b, 5), {"metric": "precision-recall", "k": 5}),
}


# Wrong scores.


def parts(a: Any, b: Any) -> tuple[float, float, float]:
    """Return the squared distance of means, the traces, and the trace of the root."""
    (m1, c1), (m2, c2) = moments(a), moments(b)
    root = np.trace(scipy.linalg.sqrtm(c1 @ c2).real)
    return float((m1 - m2) @ (m1 - m2)), float(np.trace(c1) + np.trace(c2)), float(root)


def with_eps(a: Any, b: Any) -> float:
    (m1, c1), (m2, c2) = moments(a), moments(b)
    shift = 1e-3 * np.eye(len(c1))
    root = np.trace(scipy.linalg.sqrtm((c1 + shift) @ (c2 + shift)).real)
    return float((m1 - m2) @ (m1 - m2) + np.trace(c1) + np.trace(c2) - 2 * root)


def diagonal(a: Any, b: Any) -> float:
    (m1, c1), (m2, c2) = moments(a), moments(b)
    return float((m1 - m2) @ (m1 - m2) + ((np.diag(c1) ** 0.5 - np.diag(c2) ** 0.5) ** 2).sum())


def elementwise(a: Any, b: Any) -> float:
    (m1, c1), (m2, c2) = moments(a), moments(b)
    root = np.sqrt(np.maximum(c1 @ c2, 0))
    return float((m1 - m2) @ (m1 - m2) + np.trace(c1) + np.trace(c2) - 2 * np.trace(root))


def without_singular(a: Any, b: Any) -> float:
    (m1, c1), (m2, c2) = moments(a), moments(b)
    if min(np.linalg.eigvalsh(c1)[0], np.linalg.eigvalsh(c2)[0]) < 1e-10:
        return float("nan")
    return of_moments(m1, c1, m2, c2)


class Cached:
    """Statistics of the real set, computed once."""

    def __init__(self) -> None:
        self.kept: Any = None

    def __call__(self, a: Any, b: Any) -> float:
        if self.kept is None:
            self.kept = moments(b)
        return of_moments(*moments(a), *self.kept)


def dropped(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_changed(lambda x: x[: len(x) // 32 * 32], a, b, extractor)


def in_training(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_images(a, b, extractor.train())


def one_scaled(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_images(a.float() / 127.5 - 1, b, extractor)


def one_resized(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_images(functional.interpolate(a.float(), (20, 20)), b.float(), extractor)


def not_rounded(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_images(a.clamp(-1, 1), b.clamp(-1, 1), extractor)


def not_clipped(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_images(a, b, extractor)


def wrapped(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    return of_changed(lambda x: (127.5 * (x + 1)).round().to(torch.int32).to(torch.uint8), a, b, extractor)


def stretched(a: Tensor, b: Tensor, extractor: nn.Module) -> float:
    def of(x: Tensor) -> Tensor:
        low, high = x.amin((1, 2, 3), True), x.amax((1, 2, 3), True)
        return (255 * (x - low) / (high - low)).round().to(torch.uint8)

    return of_images(of(a), of(b), extractor)


KID, PAIR = {"metric": "kid"}, {"metric": "precision-recall"}
WRONG: dict[str, tuple[Callable[..., Any], dict[str, Any], str, str | None]] = {
    "divided by N": (lambda a, b: of_moments(*moments(a, 0), *moments(b, 0)), {}, "score:value", "DividedByN"),
    "a root": (lambda a, b: by_scipy(a, b) ** 0.5, {}, "score:value", "RootOfScore"),
    "means without a square": (
        lambda a, b: by_scipy(a, b) - parts(a, b)[0] + parts(a, b)[0] ** 0.5, {}, "score:value", "MeanNotSquared"
    ),
    "means alone": (lambda a, b: parts(a, b)[0], {}, "score:value", "NoCovariance"),
    "no means": (lambda a, b: by_scipy(a, b) - parts(a, b)[0], {}, "score:value", "NoMean"),
    "no trace of the root": (lambda a, b: sum(parts(a, b)[:2]), {}, "score:value", "NoTraceOfRoot"),
    "the root once": (lambda a, b: by_scipy(a, b) + parts(a, b)[2], {}, "score:value", "RootOnce"),
    "variances alone": (diagonal, {}, "score:value", "DiagonalCovariance"),
    "a root of each element": (elementwise, {}, "score:value", "ElementwiseRoot"),
    "eps always": (with_eps, {}, "score:value", "EpsAlways"),
    "twice": (lambda a, b: 2 * by_scipy(a, b), {}, "score:value", None),
    "kept statistics": (Cached(), {}, "score:value", "StaleStatistics"),
    "no score for few images": (without_singular, {}, "score:singular", "SingularNan"),
    "moments without means": (
        lambda m1, c1, m2, c2: of_moments(m1, c1, m1, c2), {"arrays": "numpy"}, "score:value", "NoMean"
    ),
    "the last batch is dropped": (dropped, IMAGES, "score:images", "DroppedImages"),
    "dropout in the extractor": (in_training, IMAGES, "score:evaluation_mode", None),
    "one set is scaled": (one_scaled, IMAGES, "score:pixels", "DifferentProcessing"),
    "one set is resized": (one_resized, IMAGES, "score:pixels", "DifferentProcessing"),
    "not rounded": (not_rounded, FLOATS, "score:pixels", "NotQuantised"),
    "not clipped": (not_clipped, FLOATS, "score:pixels", "NotClipped"),
    "wrapped": (wrapped, FLOATS, "score:pixels", "WrappedPixels"),
    "stretched": (stretched, FLOATS, "score:pixels", "StretchedSamples"),
    "biased KID": (lambda a, b: mmd(a, b, biased=True), KID, "score:value", "BiasedKid"),
    "a kernel without its scale": (
        lambda a, b: mmd(a, b, lambda x, y: (x @ y.T + 1) ** 3), KID, "score:value", "UnscaledKernel"
    ),
    "a kernel without 1": (
        lambda a, b: mmd(a, b, lambda x, y: (x @ y.T / x.shape[1]) ** 3), KID, "score:value", "NoConstant"
    ),
    "a kernel of degree 2": (
        lambda a, b: mmd(a, b, lambda x, y: (x @ y.T / x.shape[1] + 1) ** 2), KID, "score:value", "SquareKernel"
    ),
    "recall and precision": (lambda a, b: pair(a, b)[::-1], PAIR, "score:value", "SwappedPrecision"),
    "itself as a neighbour": (lambda a, b: pair(a, b, 2), PAIR, "score:value", "CountsItself"),
    "five neighbours for three": (lambda a, b: pair(a, b, 5), PAIR, "score:value", "OtherK"),
    "its own reach": (
        lambda a, b: (
            float((distances(a.numpy(), b.numpy()) <= reaches(a.numpy(), 3)[:, None]).any(1).mean()),
            float((distances(a.numpy(), b.numpy()) <= reaches(b.numpy(), 3)[None]).any(0).mean()),
        ),
        PAIR, "score:value", "SharedReach",
    ),
}  # fmt: skip


def audited(target: Any, **options: Any) -> list[Result]:
    return list(audit(target, ScoreOptions(**{"target": "x", **options})))


def failed(target: Any, **options: Any) -> dict[str, str | None]:
    found = graded(audited(target, **options), strict=False)
    return {one.id: one.deviation for one in found if one.status == "fail"}


@pytest.mark.parametrize("what", RIGHT)
def test_a_right_score_passes(what: str) -> None:
    target, options = RIGHT[what]
    assert failed(target, **options) == {}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_score_has_one_finding(what: str) -> None:
    target, options, name, deviation = WRONG[what]
    found = [one for one in findings(graded(audited(target, **options), strict=False)) if one.fails]
    assert [(one.functions, one.deviations) for one in found] == [((name,), (deviation,) if deviation else ())]


def test_two_deviations_are_two_findings() -> None:
    def score(a: Any, b: Any) -> float:
        return float(of_moments(*moments(a, 0), *moments(b, 0)) ** 0.5)

    found = [one.deviations for one in findings(graded(audited(score), strict=False)) if one.fails]
    assert found == [("DividedByN",), ("RootOfScore",)]


def test_a_constant_factor_is_said() -> None:
    [message] = [one.message for one in audited(WRONG["twice"][0]) if one.status == "fail"]
    assert "2 times the right value" in message


def test_right_scores_pass_for_many_seeds() -> None:
    assert [seed for seed in range(30) if failed(by_scipy, seed=seed)] == []
    assert [seed for seed in range(30) if failed(lambda a, b: pair(a, b), seed=seed, **PAIR)] == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("what", ["divided by N", "eps always", "itself as a neighbour", "biased KID", "wrapped"])
def test_deviations_are_named_for_other_seeds(what: str, seed: int) -> None:
    target, options, name, deviation = WRONG[what]
    assert failed(target, seed=seed, **options) == {name: deviation}


def test_notes_say_what_is_open() -> None:
    def notes(what: str) -> dict[str, str]:
        target, options = RIGHT[what]
        return {one.id: one.message for one in audited(target, **options) if one.status == "note"}

    assert notes("of images")["score:pixels"].endswith("images in [0, 255]")
    assert notes("of scaled images")["score:pixels"].endswith("images in [-1, 1]")
    assert notes("of scaled images")["score:form"].endswith("it takes images; the first set is real")
    assert "rounded and clipped; the extractor gets images in [0, 1]" in notes("of samples in [0, 1]")["score:pixels"]
    assert "rounded down" in notes("of truncated samples")["score:pixels"]
    assert "1000 times" in notes("KID times 1000")["score:value"]


def test_float32_and_complex_numbers_are_findings_of_their_own_kind() -> None:
    def narrow(a: Tensor, b: Tensor) -> float:
        return float(np.float16(by_scipy(a, b)))

    assert {one.id: one.kind for one in audited(narrow) if one.status == "fail"} == {"score:value": "precision"}
    imaginary = {one.id: one.kind for one in audited(lambda a, b: by_scipy(a, b) + 0j) if one.status == "fail"}
    assert imaginary == {"score:type": "type"}


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (lambda a: 1.0, {}, "expected 2, 3 or 4 arguments without a default, got 1"),
        (lambda a, b: "text", {}, "expected a number, got str"),
        (lambda a, b: 1 / 0, {}, "got ZeroDivisionError"),
        (lambda a, b, extractor: 1.0, IMAGES, "got no call of the extractor"),
        (lambda a, b: 1.0, PAIR, "precision"),
        (lambda m1, c1, m2, c2: 1.0, KID, "got moments"),
    ],
)
def test_what_is_not_a_score_is_refused(target: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        audited(target, **options)


def test_the_command_ends_with_the_status_of_the_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom ict_ref import formulas\n\n"
        "def right(a, b):\n    return formulas.kernel_distance(b.double(), a.double())\n\n"
        "def wrong(a, b):\n    return right(a, b) + 0.1\n"
    )
    assert main(["audit", "score", f"{tmp_path}/mine.py:right", "--metric", "kid"]) == 0
    assert main(["audit", "score", f"{tmp_path}/mine.py:wrong", "--metric", "kid"]) == 1
    assert "should be" in capsys.readouterr().out


def test_deviations_of_scores_have_effects_and_fixes() -> None:
    named = {one[3] for one in WRONG.values()} | {"TruncatedPixels", None}
    of_scores = [one for one in known_deviations().values() if one.function == "score"]
    assert {one.name for one in of_scores} == named - {None}
    assert all(one.what and one.effect and fix_of(one.name) for one in of_scores)
