"""The audit of a training loop recognises the optimizers of torch."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.support.audited_loops import T
from torch import nn

from ict_ref.verify.audit.training.network import chosen_gradients
from ict_ref.verify.audit.training.optimizers import Movements, Optimizer, fit, recognise

# The optimizers of torch, by their own updates.


def moves_of(make: Callable[..., torch.optim.Optimizer], **options: Any) -> Movements:
    gradients = chosen_gradients(27, 3)
    parameter = nn.Parameter(torch.zeros(gradients.shape[1], dtype=torch.float64))
    optimizer = make([parameter], **options)
    trace = [parameter.detach().clone()]
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        trace.append(parameter.detach().clone())
    weights = torch.stack(trace)
    return Movements(gradients, weights[:-1], weights[1:], 2**-52)


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (T.RAdam, {}, Optimizer()),
        (T.RAdam, {"betas": (0.5, 0.99)}, Optimizer(betas=(0.5, 0.99))),
        (T.Adam, {"eps": 1e-4}, Optimizer("Adam", eps=1e-4)),
        (T.AdamW, {"weight_decay": 0.0}, Optimizer("Adam")),
        (T.SGD, {}, Optimizer("SGD")),
        (T.SGD, {"momentum": 0.95}, Optimizer("SGD with momentum", (0.95, 0.999))),
        (T.SGD, {"momentum": 0.9, "nesterov": True}, Optimizer("SGD with Nesterov momentum")),
        (T.RMSprop, {"alpha": 0.9}, Optimizer("RMSprop", (0.9, 0.9))),
        (T.Adagrad, {"eps": 1e-8}, Optimizer("Adagrad")),
    ],
)
def test_an_optimizer_of_torch_is_recognised(
    make: Callable[..., torch.optim.Optimizer], options: dict[str, Any], expected: Optimizer
) -> None:
    moves = moves_of(make, lr=0.01, **options)
    found = recognise(Optimizer(), moves)
    assert found is not None
    assert str(found) == str(expected)
    assert torch.allclose(fit(found, moves).rates, torch.full((27,), 0.01, dtype=torch.float64))


def test_unknown_movements_are_not_recognised() -> None:
    moves = moves_of(T.Adamax, lr=0.01)
    assert recognise(Optimizer(), moves) is None
    assert recognise(Optimizer(), replace(moves, after=moves.before + 1)) is None
