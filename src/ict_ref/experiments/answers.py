"""Does iCT learn the consistency function of data for which it is known? (iCT, Section 2 and Table 1)"""

from dataclasses import dataclass, replace

from ict_ref.config import Method
from ict_ref.experiments.analytic_datasets import Mixture
from ict_ref.experiments.runs import Table, Tick, answer, configuration, noisy, rms, trained
from ict_ref.training.trainer import Trainer

SIGMAS = (0.1, 1.0, 10.0, 80.0)
# The right column of iCT's Table 1 but for two numbers: 1 500 updates are too few for 1 280 cells, and c = 0.3, for
# 0.00054 sqrt(d) with d = 1 or 2 lies far below the distances that occur, and the signs of them are learned slowly.
METHOD = Method(s1=160, huber_c=0.3)


@dataclass(frozen=True)
class KnownAnswer:
    """A model is trained by the paper's method, and compared with f* at some noise levels."""

    name: str
    data: Mixture
    steps: int = 1500
    batch_size: int = 256
    learning_rate: float = 1e-2
    ema_decay: float = 0.99
    sigma_data: float = METHOD.sigma_data

    @property
    def updates(self) -> int:
        """Return how often `tick` will be called."""
        return self.steps

    def run(self, tick: Tick) -> list[Table]:
        """Return the errors of the average, of the model at the start, and of the posterior mean."""
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
