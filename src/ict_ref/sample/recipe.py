"""The recipe of samples from a trained model; sample k depends only on the recipe and k."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel
from ict_ref.checkpoint.safetensors_io import checksum
from ict_ref.formulas import multistep_sample
from ict_ref.sample.images import some_images, together
from ict_ref.utils.command_line import expect
from ict_ref.utils.rng import stream

FORMAT = 2
"""Format of descriptions of samples; format 1, of version 0.1.0, has no number."""


@dataclass(frozen=True)
class Recipe:
    """A trained model and all settings of its samples.

    Raises:
        ValueError: The model does not support the noise levels or labels.
    """

    trained: PretrainedModel
    count: int
    sigmas: Sequence[float] = ()
    """Descending noise levels, one per step; empty: one step at the model's sigma_max."""
    wanted: tuple[int, ...] = ()
    """Classes of the samples; empty: all classes of the model."""
    seed: int = 0
    clip: bool | None = None
    """Whether each step's result is clipped to [-1, 1]; None: as in the run."""
    precision: Literal["float32", "run"] = "float32"
    """Precision of the network; run: that of the run's training."""
    compiled: bool = False
    """Whether the network is compiled by torch.compile."""
    truncate: bool = False
    """Whether pixels are rounded down to 8 bits."""
    label_order: Literal["turn", "random"] = "turn"
    """Whether samples take the classes in turn, or each draws its class at random."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"--count: expected an integer >= 1, got {self.count}")
        # The sampler itself rejects bad levels here, on an empty batch.
        nothing, levels = torch.zeros(len(self.levels), 0, 1), torch.tensor(self.levels, dtype=torch.float64)
        multistep_sample(lambda x, _: x, nothing, levels, sigma_min=self.trained.model.sigma_min)
        self.trained.refuse_untrained("--sigmas", self.levels)
        self.trained.labels(1, self.wanted)
        has_order = self.label_order == "turn" or self.trained.classes > 0
        expect(has_order, "--label-order", "a model with labels for random", self.trained.name, "Leave it out.")
        expect(self.policy is not None, "--precision", "float32 for a network file", "run", "A file has no run.")
        advice = "Leave the option out."
        expect(self.policy != "float64", "--precision", "float32 for a run in float64", "run", advice)

    @property
    def policy(self) -> str | None:
        """Return the policy of `train.precision` in which the network computes; None if the run is not known."""
        if self.precision == "float32":
            return self.precision
        return None if self.trained.config is None else self.trained.config.train.precision

    @property
    def levels(self) -> list[float]:
        """Return the noise levels."""
        return list(self.sigmas) or [self.trained.method.sigma_max]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return a line on a first level that is not sigma_max, from which samples are not what the model was made for.

        A level that rounds to sigma_max in six digits counts as it.
        """
        first, highest = self.levels[0], self.trained.method.sigma_max
        if f"{first:g}" == f"{highest:g}":
            return ()
        return (f"the first noise level is {first:g} and not sigma_max, {highest:g}",)

    @property
    def clips(self) -> bool:
        """Return whether each step's result is clipped to [-1, 1]."""
        return self.trained.sample.clip if self.clip is None else self.clip

    @property
    def labels(self) -> Int64[Tensor, " count"] | None:
        """Return the class of each sample, or None for a model without labels."""
        if self.label_order == "turn":
            return self.trained.labels(self.count, self.wanted)
        classes = torch.tensor(self.wanted or range(self.trained.classes))
        uniform = torch.from_numpy(stream(self.seed, "label").random(self.count))
        return classes[(uniform * len(classes)).long()]

    @property
    def batches(self) -> list[range]:
        """Return the samples of each batch."""
        return together(self.count, self.trained.event)

    def make(self, chosen: range) -> UInt8[Tensor, " some channels height width"]:
        """Return the chosen samples as one batch."""
        assert self.policy is not None  # noqa: S101 (checked at the start)
        if self.compiled and self.trained.model.network._compiled_call_impl is None:
            self.trained.model.network.compile(dynamic=False)
        return some_images(
            self.trained.model,
            self.labels,
            self.levels,
            chosen,
            event=self.trained.event,
            seed=self.seed,
            clip=self.clips,
            precision=self.policy,
            truncate=self.truncate,
        )

    def described(self) -> dict[str, Any]:
        """Return everything on which the samples depend, for their description."""
        at_random = self.label_order == "random"
        every = f"all, {'at random' if at_random else 'in turn'}" if self.trained.classes else None
        # Descriptions of chosen classes without this field have them in turn.
        order = {"label_order": "at random"} if at_random else {}
        # Descriptions without these fields are of float32 and not compiled.
        rounding = {} if self.policy == "float32" else {"precision": self.policy}
        compiled = {"compiled": True} if self.compiled else {}
        return {
            "network_sha256": network_sha256(self.trained),
            "sigmas": self.levels,
            "labels": list(self.wanted) or every,
            "seed": self.seed,
            "clipping": "each step's result to [-1, 1]" if self.clips else "of pixels alone, to 0 to 255",
            "quantisation": "rounded down to 256 values" if self.truncate else "rounded to the nearest of 256",
            **order,
            **rounding,
            **compiled,
        }


def network_sha256(trained: PretrainedModel) -> str:
    """Return the checksum of a model's weights, by which descriptions of its images name it."""
    return checksum("", trained.model.state_dict())
