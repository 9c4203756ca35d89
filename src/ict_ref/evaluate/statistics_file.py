"""Statistics of a reference in an .npz file, with mu and sigma as in public FID tools.

mu, sigma   float64, mean and covariance of the features
count       number of images
ict_ref     JSON: the features, their checksum, and the protocol of the images
features    float32, the features for KID, precision and recall if they are small enough
Files of other tools have only mu and sigma, and do not identify their features. Reference batches of guided-diffusion
have images too (arr_0).
"""

import json
import reprlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped

from ict_ref.data.prepared import sha256
from ict_ref.evaluate.features import Features
from ict_ref.evaluate.measured import Measured
from ict_ref.utils import file_format
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.atomic import atomically
from ict_ref.utils.command_line import expect
from ict_ref.utils.inflation import refuse_inflated_arrays
from ict_ref.utils.json_file import checked, entry, json_object
from ict_ref.utils.regular_file import open_regular
from ict_ref.utils.version import __version__

FORMAT = 2
"""Format of the description; format 1, of version 0.1.0, has no number."""
ADVICE = "Make the file with --save-stats."
# Features of a reference are saved with its moments up to this size.
SMALL = 64 << 20
Arrays = dict[str, Shaped[np.ndarray, " *shape"]]


def is_statistics(place: str) -> bool:
    """Return whether this is an .npz of statistics, perhaps with images.

    Raises:
        ValueError: The file is damaged.
    """
    return "mu" in _names(place)


def is_batch(place: str) -> bool:
    """Return whether this is an .npz of another tool with both images (arr_0) and statistics.

    Raises:
        ValueError: The file is damaged.
    """
    return {"mu", "arr_0"} <= _names(place) and "ict_ref" not in _names(place)


def _names(place: str) -> set[str]:
    return set(_arrays(Path(place), ())) if place.endswith(".npz") and Path(place).is_file() else set()


def save(measured: Measured, features: Features, path: Path) -> None:
    """Write the statistics of a set."""
    about = {
        file_format.KEY: FORMAT,
        "ict_ref": __version__,
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
    kept = _kept(path, arrays, len(mu)) if about else None
    return Measured(
        count=_count(path, arrays),
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
            f"sigma {sigma.dtype} {sigma.shape}. {ADVICE}"
        )
    for name, array in (("mu", mu), ("sigma", sigma)):
        expect(bool(np.isfinite(array).all()), f"{path}: {name}", "finite numbers", "a NaN or an infinity", ADVICE)
    return mu, sigma


def _count(path: Path, arrays: Arrays) -> int | None:
    """Return the number of images, or None for a file without it.

    Raises:
        ValueError: The number is not an integer >= 1.
    """
    if "count" not in arrays:
        return None
    count = arrays["count"]
    is_integer = count.ndim == 0 and count.dtype.kind in "iu"
    got = reprlib.repr(count.item()) if count.size == 1 else f"{count.dtype} {count.shape}"
    expect(is_integer and int(count) >= 1, f"{path}: count", "an integer >= 1", got, ADVICE)
    return int(count)


def _kept(path: Path, arrays: Arrays, size: int) -> Shaped[np.ndarray, " n d"] | None:
    """Return the features, or None for a file without them.

    Raises:
        ValueError: The array is not finite floats [images, features].
    """
    if "features" not in arrays:
        return None
    features = arrays["features"]
    fits = features.ndim == 2 and features.shape[1] == size and len(features) >= 1 and features.dtype.kind == "f"
    expected, got = f"floats [images, {size}]", f"{features.dtype} {features.shape}"
    expect(fits, f"{path}: features", expected, got, ADVICE)
    finite = fits and bool(np.isfinite(features).all())
    expect(finite, f"{path}: features", "finite numbers", "a NaN or an infinity", ADVICE)
    return features


def _about(path: Path, arrays: Arrays) -> dict[str, Any]:
    """Return the description in the file; empty for a file of another tool.

    Raises:
        LaterFormatError: A later version of ict_ref wrote the file.
        ValueError: The description is damaged. The message names the entry.
    """
    if "ict_ref" not in arrays:
        return {}
    about = json_object(str(arrays["ict_ref"]), f"The description in {path}", ADVICE)
    file_format.format_of(path, about, FORMAT)
    try:
        image = entry(about, "image", tuple[int, int, int], least=1)
        for name, kind in (("features", str), ("features_sha256", str | None), ("count", int | None)):
            checked(about.get(name), kind, name)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). {ADVICE}") from None
    about = {name: value for name, value in about.items() if name not in (file_format.KEY, "ict_ref")}
    return {**about, "image": list(image)}


def _arrays(path: Path, wanted: tuple[str, ...]) -> Arrays:
    """Return the wanted arrays that the file has, or with an empty `wanted` all names with empty arrays."""
    with refuse_damaged(path), open_regular(path) as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is damaged or not an .npz")
        refuse_inflated_arrays(file, wanted)
        with np.load(file, allow_pickle=False) as archive:
            if not wanted:
                return {name: np.empty(0) for name in archive.files}
            return {name: archive[name] for name in wanted if name in archive.files}


def _feature_name(name: str | None, checksum: str | None) -> str:
    return f"{name} (SHA-256 {checksum[:16]}...)" if checksum else f"{name}"
