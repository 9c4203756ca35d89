"""Networks and data of a user's own, for tests of the Python interface."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ict_ref.networks.dropout import DropoutSite, drop


class Plain(nn.Module):
    """F(x, c_noise) without labels or dropout, with a few parameters."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        level = c_noise[:, None, None, None].expand(-1, 1, *x.shape[2:])
        out: Tensor = self.last(self.first(torch.cat([x, level], dim=1)).tanh())
        return out


class Wide(Plain):
    """The same with tensors of other shapes."""

    def __init__(self) -> None:
        super().__init__(width=5)


class Labelled(Plain):
    """F(x, c_noise, labels) for three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Embedding(3, 1)

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, c_noise + self.classes(labels)[:, 0])


class Dropping(Plain):
    """F(x, c_noise, labels, masks) with dropout by masks."""

    site = DropoutSite(2, 8, 8, 0.5)

    def dropout_sites(self) -> Sequence[DropoutSite]:
        return [self.site]

    def forward(  # type: ignore[override]
        self, x: Tensor, c_noise: Tensor, labels: Tensor | None, masks: tuple[Tensor, ...] | None
    ) -> Tensor:
        level = c_noise[:, None, None, None].expand(-1, 1, *x.shape[2:])
        shown = torch.cat([x, level], dim=1)
        shown = shown if masks is None else drop(shown, masks[0], self.site.rate)
        out: Tensor = self.last(self.first(shown).tanh())
        return out


class Random(Plain):
    """A network with torch's own dropout."""

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x, c_noise))


class Changing(Plain):
    """A network with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        out: Tensor = self.norm(super().forward(x, c_noise))
        return out


class Unused(Plain):
    """A network with a parameter that has no effect."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(1))


class Frozen(Plain):
    """A network with a parameter that requires no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.last.bias.requires_grad_(False)  # type: ignore[union-attr]


class Flat(Plain):
    """A network whose result has another shape."""

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        return super().forward(x, c_noise).flatten(1)


class Failing(Plain):
    """A network whose call fails."""

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        raise RuntimeError("no such\nluck")


def failing() -> nn.Module:
    """Fail, instead of building a network."""
    raise KeyError("weights")


def nothing() -> str:
    """Return something else than a network."""
    return "a network"


NUMBER = 3
INSTANCE = Plain()
