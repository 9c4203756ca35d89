import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from ict_ref import train


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(65, 256), nn.SiLU(), nn.Linear(256, 256), nn.SiLU(), nn.Linear(256, 64))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.cat([x.flatten(1), c_noise[:, None]], dim=1))
        return out.reshape(x.shape)


if __name__ == "__main__":
    images = load_digits().images[:, None] / 8 - 1  # [1797, 1, 8, 8], from -1 to 1
    run = train({"preset": "digits", "train.steps": 400}, data=images, network=Net, out="runs/mine")
    print(run.sample(4))  # uint8 [4, 1, 8, 8]
