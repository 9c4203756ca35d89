"""Recognition of an exponential moving average by the weights and the averages after each update."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Trace = Float[Tensor, "steps size"]
# The rounding of a decay such as 0.99993 in float32 is 4e-4 of its distance to 1.
RTOL = 3e-3


@dataclass(frozen=True)
class Average:
    """What is wrong with a moving average; `deviation` is the known deviation, if it is one."""

    wrong: str | None = None
    deviation: str | None = None
    decays: tuple[float, ...] = ()
    """The decay of each update that moved the average; empty if it is not a moving average."""


def steps_towards(weights: Trace, ema: Trace, precision: float) -> Float[Tensor, " updates"] | None:
    """Return 1 - r of each update, where ema' = ema + (1 - r) (weights' - ema), and 0 where the average is still.

    None if some update is not of this form. `precision` is the eps of the dtype of the average.
    """
    gap, step = weights[1:] - ema[:-1], ema[1:] - ema[:-1]
    squared = gap.square().sum(1)
    share = torch.where(squared > 0, (gap * step).sum(1) / squared.clamp_min(1e-300), 0)
    share = torch.where(step.abs().amax(1) == 0, 0, share)
    slack = 4 * precision * torch.maximum(ema[1:].abs(), ema[:-1].abs())
    error = (step - share[:, None] * gap).abs() - slack
    return share if bool((error <= RTOL * (share[:, None] * gap).abs().amax(1, keepdim=True)).all()) else None


def explain(weights: Trace, ema: Trace, decay: float, precision: float) -> Average:
    """Return what is wrong with an average of these weights; both traces begin before the first update."""
    if torch.equal(ema[-1], ema[0]):
        return Average("the EMA weights never move", "FrozenEma")
    share = steps_towards(weights, ema, precision)
    if share is None:
        return _of_another_form(weights, ema, precision)
    decays = tuple((1 - share[share != 0]).tolist())
    found = _exchanged(share, decay) or _copied(share) or _every_nth(share) or _warmed_up(share) or (None, None)
    wrong, deviation = found
    return Average(wrong, deviation, decays)


def _of_another_form(weights: Trace, ema: Trace, precision: float) -> Average:
    """Explain an average that does not move towards the weights after the same update."""
    late = torch.cat([weights[:1], weights[:-1]])
    # A loop that averages before its optimizer moves does not move the average at its first update.
    share = steps_towards(late[1:], ema[1:], precision)
    if share is not None and bool((share > 0).any()):
        wrong = "the EMA is updated before the optimizer, so it averages the weights of one update earlier"
        return Average(wrong, "LateEma", tuple((1 - share[share != 0]).tolist()))
    return Average("the EMA weights are not r EMA + (1 - r) weights")


def _settled(share: Tensor) -> Tensor:
    """Return 1 - r of the updates that move the average, without a first one that copies the weights."""
    moving = share[share != 0]
    return moving[1:] if len(moving) > 1 and abs(float(moving[0]) - 1) < RTOL else moving


def _copied(share: Tensor) -> tuple[str, str] | None:
    if bool(((share - 1).abs() < RTOL).all()):
        return "the EMA weights are a copy of the weights after each update", "CopiedEma"
    return None


def _exchanged(share: Tensor, decay: float) -> tuple[str, str] | None:
    if bool(((_settled(share) - decay).abs() < RTOL * (1 - decay)).all()):
        return f"EMA' = {1 - decay:.5f} EMA + {decay:.5f} weights: r and 1 - r are exchanged", "ExchangedDecay"
    return None


def _every_nth(share: Tensor) -> tuple[str, str] | None:
    """Explain an average that does not move at each update."""
    moving = (share != 0).nonzero().flatten()
    gaps = set(moving.diff().tolist())
    if gaps <= {1}:
        return None
    if len(gaps) > 1:
        return "the EMA is not updated at each update of the weights", "EmaEveryNth"
    every, r = gaps.pop(), 1 - float(_settled(share).mean())
    wrong = f"the EMA is updated every {every} updates: its decay is {r ** (1 / every):.6f} per update, not {r:.6g}"
    return wrong, "EmaEveryNth"


def _warmed_up(share: Tensor) -> tuple[str, str] | None:
    moving = _settled(share)
    if bool(((moving - moving.mean()).abs() <= RTOL * moving.mean().abs()).all()):
        return None
    first = ", ".join(f"{1 - value:.4g}" for value in moving[:3].tolist())
    return f"the decay is not constant: {first}, ..., {1 - float(moving[-1]):.6g} at the last update", "EmaWarmup"


def before_pull(weights: Trace, ema: Trace, decay: float) -> Float[Tensor, "updates size"]:
    """Return the weights after each update, if they were then replaced by r weights + (1 - r) average."""
    return (weights[1:] - (1 - decay) * ema[:-1]) / decay
