"""Statistics of a reference in an .npz file, with mu and sigma as in public FID tools.

mu, sigma   float64, mean and covariance of the features
count       number of images
ict_ref     JSON: the features, their checksum, and the protocol of the images
features    float32, the features for KID, precision and recall if they are small enough
Files of other tools have only mu and sigma, and do not identify their features.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped

from ict_ref.data.prepared import sha256
from ict_ref.evaluate.features import Features
from ict_ref.evaluate.measured import Measured
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.atomic import atomically

# Features of a reference are saved with its moments up to this size.
SMALL = 64 << 20
Arrays = dict[str, Shaped[np.ndarray, " *shape"]]


def is_statistics(place: str) -> bool:
    """Return whether this is an .npz of statistics instead of images.

    Raises:
        ValueError: The file is damaged.
    """
    return place.endswith(".npz") and Path(place).is_file() and "mu" in _arrays(Path(place), ())


def save(measured: Measured, features: Features, path: Path) -> None:
    """Write the statistics of a set."""
    about = {**measured.about, "features": features.name, "features_sha256": features.sha256}
    arrays: Arrays = {
        "mu": measured.mean.numpy(),
        "sigma": measured.covariance.numpy(),
        "count": np.array(measured.count),
        "ict_ref": np.array(json.dumps(about)),
    }
    if measured.features is not None and measured.features.nbytes <= SMALL:
        arrays["features"] = measured.features.numpy()
    with atomically(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(place: str, features: Features) -> Measured:
    """Return the statistics in a file.

    Raises:
        ValueError: The file is damaged or was made with other features.
        OSError: The file cannot be read.
    """
    path = Path(place)
    arrays = _arrays(path, ("mu", "sigma", "count", "ict_ref", "features"))
    mu, sigma = (arrays.get(name, np.empty(0, np.int8)) for name in ("mu", "sigma"))
    if mu.ndim != 1 or sigma.shape != 2 * mu.shape or {mu.dtype.kind, sigma.dtype.kind} != {"f"}:
        raise ValueError(
            f"{path}: expected floats mu [features] and sigma [features, features], got mu {mu.dtype} {mu.shape} and "
            f"sigma {sigma.dtype} {sigma.shape}. Make the file with --save-stats."
        )
    about, count, kept = _about(path, arrays), arrays.get("count"), arrays.get("features")
    there = _feature_name(about.pop("features", None), about.get("features_sha256"))
    here = _feature_name(features.name, features.sha256)
    if "ict_ref" in arrays and about.pop("features_sha256", None) != features.sha256:
        raise ValueError(f"--features: expected {there} as in {path}, got {here}. Give the same features.")
    return Measured(
        count=None if count is None or count.ndim or count.dtype.kind not in "iu" else int(count),
        mean=torch.from_numpy(mu).double(),
        covariance=torch.from_numpy(sigma).double(),
        features=None if kept is None or "ict_ref" not in arrays else torch.from_numpy(kept).float(),
        probabilities=None,
        about={**about, "name": place, "statistics_sha256": sha256(path)},
    )


def _about(path: Path, arrays: Arrays) -> dict[str, Any]:
    if "ict_ref" not in arrays:
        return {}
    try:
        about = dict(json.loads(str(arrays["ict_ref"])))
        return {**about, "image": [int(side) for side in about["image"]]}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged: its description is not valid JSON. Save it again.") from None


def _arrays(path: Path, wanted: tuple[str, ...]) -> Arrays:
    """Return the wanted arrays that the file has, or with an empty `wanted` all names with empty arrays."""
    with refuse_damaged(path), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is damaged or not an .npz")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            if not wanted:
                return {name: np.empty(0) for name in archive.files}
            return {name: archive[name] for name in wanted if name in archive.files}


def _feature_name(name: str | None, checksum: str | None) -> str:
    return f"{name} (SHA-256 {checksum[:16]}...)" if checksum else f"{name}"
