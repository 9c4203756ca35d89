"""The trained model as a consistency function."""

from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel
from ict_ref.formulas.objective import ConsistencyFunction


def function_of(
    trained: PretrainedModel, labels: Int64[Tensor, " some"] | None, after: Callable[[], object]
) -> ConsistencyFunction:
    """Return f(x, sigma) for these labels, clipped to [-1, 1] if the run clips samples; each call calls `after`."""

    def f(x: Float[Tensor, " some *event"], sigma: Float[Tensor, " some"]) -> Float[Tensor, " some *event"]:
        value: Tensor = trained.model(x, sigma, labels)
        after()
        return value.clamp(-1, 1) if trained.sample.clip else value

    return f
