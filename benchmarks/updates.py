"""The optimizer and the average at the tensor shapes of `cifar10`, against torch's own."""

import torch
from torch import Tensor, nn

from benchmarks.ratio import Ratio, interleaved
from ict_ref.config import PRESETS
from ict_ref.networks.model import build_network
from ict_ref.training.radam import RAdam
from ict_ref.utils.rng import stream


def measure(pairs: int) -> list[Ratio]:
    """Return ours over torch.optim.RAdam (foreach) and a foreach lerp."""
    with torch.device("meta"):
        options = PRESETS["cifar10"]().network
        network = build_network(options, channels=3, size=32, classes=0, generator=stream(0, "parameters"))
    shapes = [parameter.shape for parameter in network.parameters()]
    mine, theirs = _parameters(shapes), _parameters(shapes)
    radam, torch_s = RAdam(mine[0], lr=1e-4), torch.optim.RAdam(theirs[0], lr=1e-4, foreach=True)

    def ours() -> None:
        radam.step()
        _follow(mine)

    def torch_radam() -> None:
        torch_s.step()
        _follow(theirs)

    for _ in range(6):  # past the un-rectified steps
        ours()
        torch_radam()
    return [interleaved("optimizer and average / torch's", ours, torch_radam, pairs=pairs, target=0.30)]


def _parameters(shapes: list[torch.Size]) -> tuple[list[nn.Parameter], list[Tensor]]:
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return parameters, [parameter.detach().clone() for parameter in parameters]


@torch.no_grad()
def _follow(both: tuple[list[nn.Parameter], list[Tensor]]) -> None:
    parameters, averages = both
    torch._foreach_lerp_(averages, list(parameters), 7e-5)
