"""The experiment teacher-ema: effect of EMA weights as teacher (iCT, Section 3.2, Proposition 1, Fig. 2a)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ict_ref.config import Method
from ict_ref.experiments.analytic_datasets import POINT
from ict_ref.experiments.runs import Table, Tick, configuration, rms_error, trained
from ict_ref.formulas import (
    consistency_training_loss,
    ct_gradient_divergence,
    ct_gradient_limit,
    ct_loss_limit,
    delta_consistency_function,
    ema_update,
    sigma_grid,
    squared_l2,
    teacher_ema_decay,
)
from ict_ref.training.radam import RAdam

LOW, HIGH = 0.002, 80.0
THETA, THETA_MINUS, XIS = 1.5, 1.0, (0.35, -2.0)
# Values of CT on CIFAR-10 (iCT, Table 1).
S0, MU0 = 2, 0.9


def toy_loss(theta: Float[Tensor, ""], theta_minus: Float[Tensor, ""], *, xi: float, n: int) -> Float[Tensor, ""]:
    """Return L_CT^N for the model f_theta of Section 3.2 on the data xi, averaged over all intervals of a linear grid.

    The noise z cancels, because both networks keep sigma_min z.
    """
    sigmas = sigma_grid(n, sigma_min=LOW, sigma_max=HIGH, rho=1.0)
    x = theta.new_full((n - 1,), xi)
    return consistency_training_loss(
        lambda x, sigma: delta_consistency_function(x, sigma, xi=theta, sigma_min=LOW),
        lambda x, sigma: delta_consistency_function(x, sigma, xi=theta_minus, sigma_min=LOW),
        x,
        torch.zeros_like(x),
        torch.arange(n - 1),
        sigmas,
        distance=squared_l2,
        weights=torch.ones_like(sigmas[1:]),
    ).mean()


def toy_gradient(theta: float, theta_minus: float, *, xi: float, n: int) -> tuple[float, float]:
    """Return the loss, and its derivative with respect to theta divided by Delta sigma."""
    student = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    loss = toy_loss(student, torch.tensor(theta_minus, dtype=torch.float64), xi=xi, n=n)
    (slope,) = torch.autograd.grad(loss, [student])
    return float(loss.detach()), float(slope) * (n - 1) / (HIGH - LOW)


def toy_training(*, xi: float, n: int, steps: int, learning_rate: float, mu: float) -> float:
    """Return theta after `steps` updates by RAdam from THETA, with its EMA of decay mu as teacher."""
    theta = nn.Parameter(torch.tensor(THETA, dtype=torch.float64))
    teacher = theta.detach().clone()
    optimizer = RAdam([theta], lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(toy_loss(theta, teacher, xi=xi, n=n))
        optimizer.step()
        teacher = ema_update(teacher, theta.detach(), decay=mu)
    return float(theta.detach())


@dataclass(frozen=True)
class TeacherEMA:
    """Loss and gradient of the toy model at finite N, and training of the toy model and the network, on a point."""

    intervals: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
    toy_counts: tuple[int, ...] = (11, 101, 1001)
    toy_steps: int = 1000
    counts: tuple[int, ...] = (11, 41, 161)
    steps: int = 350
    batch_size: int = 128
    learning_rate: float = 5e-3
    ema_decay: float = 0.98
    mu: float = 0.99

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""
        return len(self.intervals) + 3 * len(self.toy_counts) + 3 * self.steps * len(self.counts)

    def run(self, tick: Tick) -> list[Table]:
        """Return the three tables."""
        return [self.gradients(tick), self.toy(tick), self.network(tick)]

    def gradients(self, tick: Tick) -> Table:
        """Return a table of loss and gradient at N noise levels for two data points, and the limits (6) and (7)."""
        rows: list[tuple[float | int | str, ...]] = []
        for intervals in self.intervals:
            apart = [toy_gradient(THETA, THETA_MINUS, xi=xi, n=intervals + 1) for xi in XIS]
            alike = [toy_gradient(THETA, THETA, xi=xi, n=intervals + 1) for xi in XIS]
            rows.append((intervals + 1, *(loss for loss, _ in apart), apart[0][1], *(slope for _, slope in alike)))
            tick()
        limit = ct_loss_limit(THETA, THETA_MINUS, sigma_min=LOW, sigma_max=HIGH)
        slopes = [
            ct_gradient_divergence(THETA, THETA_MINUS),
            ct_gradient_limit(THETA, XIS[0], sigma_min=LOW, sigma_max=HIGH),
        ]
        other = ct_gradient_limit(THETA, XIS[1], sigma_min=LOW, sigma_max=HIGH)
        return Table(
            f"teacher-ema: toy model at theta = {THETA}, on a point xi; theta- = {THETA_MINUS}, or theta- = theta",
            ("N", *(f"L, xi = {xi}" for xi in XIS), "G", *(f"G alike, xi = {xi}" for xi in XIS)),
            (*rows, ("limit", limit, limit, *slopes, other)),
            "G = 1/Delta sigma dL/dtheta. With theta- apart L forgets xi (Eq. (6)) and G diverges. Alike, theta- ="
            " theta, G is a multiple of theta - xi (Eq. (7)): descent leads to xi.",
        )

    def toy(self, tick: Tick) -> Table:
        """Train the toy model and return a table of its errors."""
        xi, rows = XIS[0], []
        for n in self.toy_counts:
            found = []
            for mu in (0.0, self.mu, teacher_ema_decay(n, s0=S0, mu0=MU0)):
                theta = toy_training(xi=xi, n=n, steps=self.toy_steps, learning_rate=5e-3, mu=mu)
                found.append(abs(theta - xi))
                tick()
            rows.append((n, *found))
        return Table(
            f"teacher-ema: toy model, |theta - xi| after {self.toy_steps} updates by RAdam, {THETA - xi:g} before",
            ("N", "no EMA", f"mu = {self.mu}", "CT's mu"),
            tuple(rows),
        )

    def network(self, tick: Tick) -> Table:
        """Train the network as in Fig. 2a, with squared l2 and weights 1/(sigma_{i+1} - sigma_i), and return errors."""
        rows = []
        for n in self.counts:
            # With this mu0, exp(s0 log(mu0) / N) equals the constant mu.
            constant = math.exp(n * math.log(self.mu) / S0)
            found = []
            for mu0 in (None, constant, MU0):
                method = Method(
                    distance="squared_l2", noise_schedule="uniform", curriculum="constant", s0=S0, s1=n - 1, mu0=mu0
                )
                config = configuration(
                    method, steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate,
                    ema_decay=self.ema_decay,
                )  # fmt: skip
                average = trained(config, POINT, tick).ema
                found.append(rms_error(average, POINT, HIGH, sigma_min=LOW))
            rows.append((n, *found))
        return Table(
            f"teacher-ema: network, rms error of f(x, {HIGH:g}) on a point after {self.steps} updates",
            ("N", "no EMA", f"mu = {self.mu}", "CT's mu"),
            tuple(rows),
        )
