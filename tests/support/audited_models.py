"""Models for the tests of their audit, and what the audit says about them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ict_ref.verify.audit.model.audit import audit
from ict_ref.verify.audit.options import ModelOptions
from ict_ref.verify.checks.result import Result
from ict_ref.verify.report.report import graded

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


class Outer(nn.Module):
    """A model in a model, whose network is in a network."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.DataParallel(Wrapper(nn.DataParallel(Network())))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        f: Tensor = self.module(x, sigma)
        return f


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


COEFFICIENTS = {f"model:{name}:{mode}" for name in ("c_skip", "c_out", "c_in", "c_noise") for mode in ("train", "eval")}


# Wrong models.


def root(sigma: Tensor, data: float = DATA) -> Tensor:
    return (sigma**2 + data**2).sqrt()


def both(**deviations: str) -> dict[str, str | None]:
    """Return the deviations of the results of both modes."""
    return {f"model:{name}:{mode}": deviation for name, deviation in deviations.items() for mode in ("train", "eval")}


class Always(Network):
    """F with dropout in every mode."""

    def forward(self, x: Tensor, c: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.5), c, labels)


def text_of(target: Any, name: str, **options: Any) -> str:
    [found] = [one for one in audited(target, **options) if one.id == name]
    return found.message
