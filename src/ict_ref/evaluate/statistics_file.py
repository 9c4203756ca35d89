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

import ict_ref
from ict_ref.data.prepared import sha256
from ict_ref.evaluate.features import Features
from ict_ref.evaluate.measured import Measured
from ict_ref.utils import file_format
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.atomic import atomically
from ict_ref.utils.command_line import expect
from ict_ref.utils.file_format import LaterFormatError

FORMAT = 2
"""Format of the description; format 1, of version 0.1.0, has no number."""
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
    about = {
        file_format.KEY: FORMAT,
        "ict_ref": ict_ref.__version__,
        **measured.about,
        "features": features.name,
        "features_sha256": features.sha256,
    }
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
    mu, sigma = _moments(path, arrays)
    about = _about(path, arrays)  # empty for a file of another tool, whose features are not known
    name, checksum = about.pop("features", None), about.pop("features_sha256", None)
    if about:
        there, here = _feature_name(name, checksum), _feature_name(features.name, features.sha256)
        same = checksum == features.sha256
        expect(same, "--features", f"{there} as in {path}", here, "Give the same features.")
    kept = arrays.get("features") if about else None
    return Measured(
        count=_count(arrays),
        mean=torch.from_numpy(mu).double(),
        covariance=torch.from_numpy(sigma).double(),
        features=None if kept is None else torch.from_numpy(kept).float(),
        probabilities=None,
        about={**about, "name": place, "statistics_sha256": sha256(path)},
    )


def _moments(path: Path, arrays: Arrays) -> tuple[Shaped[np.ndarray, " d"], Shaped[np.ndarray, " d d"]]:
    """Return mu and sigma. Raises ValueError for arrays that are not a mean and a covariance."""
    mu, sigma = (arrays.get(name, np.empty(0, np.int8)) for name in ("mu", "sigma"))
    if mu.ndim != 1 or sigma.shape != 2 * mu.shape or {mu.dtype.kind, sigma.dtype.kind} != {"f"}:
        raise ValueError(
            f"{path}: expected floats mu [features] and sigma [features, features], got mu {mu.dtype} {mu.shape} and "
            f"sigma {sigma.dtype} {sigma.shape}. Make the file with --save-stats."
        )
    return mu, sigma


def _count(arrays: Arrays) -> int | None:
    """Return the number of images, or None for a file without it."""
    count = arrays.get("count", np.empty(0))
    return int(count) if count.ndim == 0 and count.dtype.kind in "iu" else None


def _about(path: Path, arrays: Arrays) -> dict[str, Any]:
    if "ict_ref" not in arrays:
        return {}
    try:
        about = dict(json.loads(str(arrays["ict_ref"])))
        file_format.format_of(path, about, FORMAT)
        about = {name: value for name, value in about.items() if name not in (file_format.KEY, "ict_ref")}
        return {**about, "image": [int(side) for side in about["image"]]}
    except LaterFormatError:
        raise
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
