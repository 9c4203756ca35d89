"""Known images to compare a loader with: a prepared folder, a file of NumPy, or the digits of scikit-learn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from ict_ref.utils.regular_file import refuse_irregular

FORM = "digits, a prepared folder, or a .npy file of uint8 images [N, C, H, W]"


@dataclass(frozen=True)
class Known:
    """Images of 8 bits, in the order of their file, with their labels if they are known."""

    images: UInt8[np.ndarray, "n channels height width"]
    labels: Int64[np.ndarray, " n"] | None


def known_images(name: str) -> Known | None:
    """Return the known images of the option --images; None if it is empty.

    Raises:
        ValueError: There are no such images.
    """
    if not name:
        return None
    if name == "digits":
        return _digits()
    place = Path(name)
    file = place / "images.npy" if place.is_dir() else place
    labels = place / "labels.npy"
    try:
        refuse_irregular(file)
        images = np.load(file, mmap_mode="r", allow_pickle=False)
        numbers = np.load(labels, allow_pickle=False) if place.is_dir() and labels.is_file() else None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"--images: expected {FORM}, got {name}: {error}") from None
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"--images: expected {FORM}, got {images.dtype} {list(images.shape)} in {file}")
    return Known(images, numbers)


def _digits() -> Known:
    """Return the 1 797 handwritten digits of scikit-learn, whose 17 grey levels are scaled to 0 to 255.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError("--images: expected scikit-learn for digits. Run pip install scikit-learn.") from None
    grey, labels = load_digits(return_X_y=True)
    return Known(np.round(grey * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8), labels.astype(np.int64))
