"""The experiments delta, gaussian and mixture: comparison of iCT with known consistency functions (iCT, Section 2)."""

from dataclasses import dataclass, replace

from ict_ref.config import Method
from ict_ref.experiments.analytic_datasets import Mixture
from ict_ref.experiments.runs import Table, Tick, answer, configuration, noisy, rms, trained
from ict_ref.training.trainer import Trainer

SIGMAS = (0.1, 1.0, 10.0, 80.0)
# The right column of iCT's Table 1 with two changes. s1 is 160, because 1 500 updates are too few for 1 280 intervals.
# c is 0.3, because 0.00054 sqrt(d) with d = 1 or 2 is far below the distances here, which slows learning.
METHOD = Method(s1=160, huber_c=0.3)


@dataclass(frozen=True)
class KnownAnswer:
    """A comparison of a model trained with the paper's method with f* at some noise levels."""

    name: str
    data: Mixture
    steps: int = 1500
    batch_size: int = 256
    learning_rate: float = 1e-2
    ema_decay: float = 0.99
    sigma_data: float = METHOD.sigma_data

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""
        return self.steps

    def run(self, tick: Tick) -> list[Table]:
        """Return the errors of the EMA weights, of the untrained model and of the posterior mean."""
        method = replace(METHOD, sigma_data=self.sigma_data)
        config = configuration(
            method, steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate,
            ema_decay=self.ema_decay,
        )  # fmt: skip
        untrained, learned = Trainer(config, self.data).ema, trained(config, self.data, tick).ema
        rows = []
        for sigma in SIGMAS:
            x, level = noisy(self.data, sigma)
            exact = self.data.exact(x, sigma, sigma_min=method.sigma_min)
            answers = [answer(learned, x, level), answer(untrained, x, level), self.data.posterior_mean(x, level)]
            rows.append((sigma, *(rms(each - exact) for each in answers), rms(exact - exact.mean(0))))
        return [
            Table(
                f"{self.name}: rms error of f(x, sigma), x ~ p_sigma, after {self.steps} updates",
                ("sigma", "trained", "untrained", "posterior mean", "spread of f*"),
                tuple(rows),
                "Errors are lengths in the space of the data; the spread is the error of the best constant.",
            )
        ]
