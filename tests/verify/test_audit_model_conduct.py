"""The audit of a model checks its labels and describes its dropout and its embedding."""

import math
from collections.abc import Callable

import pytest
import torch
from tests.support.audited_models import COEFFICIENTS, Always, Network, Wrapper, audited, text_of
from torch import Tensor, nn

from ict_ref import formulas

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
