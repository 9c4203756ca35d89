"""RAdam, computed by torch's fused Adam kernel."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# So large that the root of any second moment is negligible, but finite in float32, which ends at 2^128.
HUGE = 2.0**80
# A count of updates after which Adam's bias corrections are 1.
LATE = 2.0**40


class RAdam(torch.optim.RAdam):
    """RAdam (Liu et al. 2019): `torch.optim.RAdam` in a sixth of its time, with the same groups, state and options.

    Let m and v be the averages of the gradients and of their squares after t updates. Torch's RAdam, with
    rho = 2 / (1 - beta2) - 1 and rho_t = rho - 2 t beta2^t / (1 - beta2^t), moves a parameter by

        lr / (1 - beta1^t) m r_t sqrt(1 - beta2^t) / (sqrt(v) + eps)                             if rho_t > 5,
        r_t = sqrt((rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t)),
        lr / (1 - beta1^t) m                                                                     else.

    Torch's Adam moves it by rate m / (sqrt(v) + eps) when t is so large that its bias corrections are 1. The fused
    kernel is given such a t. The first case is then a rate. The second is a rate times E with epsilon E, for E so large
    that sqrt(v) is negligible. Both rates depend on t only, and t is counted on the host: no number is read from a GPU.

    Where the tensor `found_inf` holds 1, an update changes neither parameters nor averages, as with torch's gradient
    scaler; it counts, until `updates` is corrected. Gradients are divided by the tensor `grad_scale` if there is one.

    Raises:
        ValueError: lr, eps or weight_decay is negative, or a beta is not in [0, 1).
        TypeError: a parameter is complex, or an option of `torch.optim.RAdam` that chooses another kernel is given.
    """

    found_inf: Float[Tensor, ""] | None = None
    grad_scale: Float[Tensor, ""] | None = None

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float | Float[Tensor, ""] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize=maximize)

    @property
    def updates(self) -> int:
        """The number of updates so far, that of the first parameter."""
        return next((int(state["step"].numpy()) for state in self.state.values() if state), 0)

    @updates.setter
    def updates(self, number: int) -> None:
        if number != self.updates:
            for state in filter(None, self.state.values()):
                state["step"].fill_(number)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Make the next update of each parameter that has a gradient; return what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for (t, _, _), parameters in self._counted(group).items():
                self._move(parameters, t, group)
        return loss

    def _counted(self, group: dict[str, Any]) -> dict[tuple[int, torch.device, torch.dtype], list[Tensor]]:
        """Count an update of each parameter that has a gradient, and return those of one kernel together."""
        found = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            if parameter.is_complex() or parameter.grad.is_sparse:
                raise TypeError("RAdam: expected real parameters with dense gradients. Use torch.optim.RAdam.")
            state = self.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            count = state["step"].numpy()  # on the host, as torch's own stores it
            count += 1
            found[int(count), parameter.device, parameter.dtype].append(parameter)
        return found

    def _move(self, parameters: list[Tensor], t: int, group: dict[str, Any]) -> None:
        """Make update number t of parameters of one device and dtype."""
        (beta1, beta2), decay = group["betas"], group["weight_decay"]
        factor, eps = rate_and_eps(t, beta1=beta1, beta2=beta2, eps=group["eps"])
        if decay and group["decoupled_weight_decay"]:
            applied = 1.0 if self.found_inf is None else 1 - self.found_inf
            torch._foreach_mul_(parameters, 1 - group["lr"] * decay * applied)
            decay = 0.0
        torch._fused_adam_(
            parameters,
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [self.state[parameter]["exp_avg"] for parameter in parameters],
            [self.state[parameter]["exp_avg_sq"] for parameter in parameters],
            [],
            [_late(parameters[0].device)] * len(parameters),
            lr=group["lr"] * factor,
            beta1=beta1,
            beta2=beta2,
            weight_decay=decay,
            eps=eps,
            amsgrad=False,
            maximize=group["maximize"],
            grad_scale=self.grad_scale,
            found_inf=self.found_inf,
        )


@cache
def _late(device: torch.device) -> Float[Tensor, ""]:
    return torch.tensor(LATE, dtype=torch.float32, device=device)


def rate_and_eps(t: int, *, beta1: float, beta2: float, eps: float) -> tuple[float, float]:
    """Return the factor of the learning rate, and the epsilon, of update number t."""
    power = math.pow(beta2, t)
    rho = 2 / (1 - beta2) - 1
    rho_t = rho - 2 * t * power / (1 - power)
    corrected = 1 / (1 - math.pow(beta1, t))
    if rho_t > 5:
        r = math.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t))
        return corrected * r * math.sqrt(1 - power), eps
    return corrected * HUGE, HUGE
