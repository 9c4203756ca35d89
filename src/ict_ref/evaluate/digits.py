"""A small classifier of 8x8 digits, whose hidden layer provides features in place of Inception's.

It is trained on all 1 797 digits of `ict_ref.data.dataset.digits`, so it favours neither the training set nor the
held-out set. `python -m ict_ref.evaluate.digits FILE` writes the file digits.safetensors.
"""

import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from ict_ref.data.dataset import digits, to_float
from ict_ref.utils.atomic import write_atomically

FILE = Path(__file__).with_name("digits.safetensors")
SHA256 = "c4fa859bfde4d24deafcd7fef29af4986775e8701fcc6b18800e409c724abf7d"
"""Checksum of the file, on which scores with these features depend."""
EVENT = (1, 8, 8)
Layers = dict[str, Float32[Tensor, "..."]]


def features_and_probabilities(
    layers: Layers, pixels: UInt8[Tensor, " n 1 8 8"]
) -> tuple[Float32[Tensor, " n 64"], Float32[Tensor, " n 10"]]:
    """Return the 64 hidden units, rectified, and the probabilities of the ten classes."""
    x = to_float(pixels).reshape(len(pixels), -1)
    hidden = (x @ layers["hidden.weight"] + layers["hidden.bias"]).relu()
    return hidden, (hidden @ layers["output.weight"] + layers["output.bias"]).softmax(1)


def taught() -> Layers:
    """Return the layers of scikit-learn's MLPClassifier (64 units, L-BFGS, alpha = 1), trained on all digits."""
    # This import takes about a second, so only this function makes it.
    from sklearn.neural_network import MLPClassifier

    both = digits()
    pixels = torch.cat([both.train.pixels, both.held_out.pixels])
    labels = torch.cat([both.train.labels, both.held_out.labels])
    classifier = MLPClassifier((64,), solver="lbfgs", alpha=1, max_iter=1000, random_state=0)
    classifier.fit(to_float(pixels).double().reshape(len(pixels), -1).numpy(), labels.numpy())
    names = ("hidden.weight", "output.weight", "hidden.bias", "output.bias")
    arrays = (np.ascontiguousarray(array, np.float32) for array in (*classifier.coefs_, *classifier.intercepts_))
    return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}


if __name__ == "__main__":
    write_atomically(Path(sys.argv[1]), safetensors.torch.save(taught()))
