"""Reports of scores and their protocol as text, as JSON and beside the paper's tables."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ict_ref.evaluate.features import Features
from ict_ref.evaluate.measured import Measured
from ict_ref.evaluate.paper import CIFAR10, IMAGENET64, SOURCE, PaperTable
from ict_ref.evaluate.scores import PARTS, Scores
from ict_ref.utils.version import __version__

PUBLISHED_COUNT = 50_000
FORMAT = 2
"""Format of score files; format 1, of version 0.1.0, has no number."""


@dataclass(frozen=True)
class Report:
    """Scores, their protocol, and warnings for comparisons."""

    scores: Scores
    protocol: dict[str, Any]
    warnings: tuple[str, ...]

    def to_json(self) -> bytes:
        """Return scores, protocol and warnings as JSON."""
        scores = dataclasses.asdict(self.scores)
        del scores["left_out"]
        content = {"format": FORMAT, "scores": scores, "protocol": self.protocol, "warnings": self.warnings}
        return json.dumps(content, indent=2).encode() + b"\n"

    def text(self) -> str:
        """Return scores, protocol and warnings as lines of text."""
        parts = self.scores.inception_score_of_parts
        of_parts = "" if parts is None else f"   ({PARTS} parts: {parts[0]:.3f} +- {parts[1]:.3f})"
        scores = (
            ("Frechet distance", _cell(self.scores.frechet_distance)),
            ("kernel distance", _cell(self.scores.kernel_distance, 6)),
            ("inception score", _cell(self.scores.inception_score) + of_parts),
            ("precision", _cell(self.scores.precision)),
            ("recall", _cell(self.scores.recall)),
        )
        lines = [f"{name:<18}{cell:>12}" for name, cell in scores]
        lines += ["", "They are FID, KID and IS only with the features of Inception.", ""]
        for name, entry in self.protocol.items():
            entries = entry.items() if isinstance(entry, dict) else [("", entry)]
            lines += [f"{(name + ' ' + of).strip():<28}{_plain(value)}" for of, value in entries]
        return "\n".join([*lines, "", *(f"warning: {line}" for line in self.warnings)]).rstrip()

    def beside_paper(self) -> str:
        """Return Tables 2 and 3 with these scores above the paper's."""
        samples, features = self.protocol["samples"], self.protocol["features"]
        steps = str(len(samples["sigmas"])) if "sigmas" in samples else "?"
        ours = {
            "FID": self.scores.frechet_distance,
            "IS": self.scores.inception_score,
            "precision": self.scores.precision,
            "recall": self.scores.recall,
        }
        note = (
            f"The paper's are Inception's, of CIFAR-10 and ImageNet; ours are of {samples['count']} samples by "
            f"{features['name']} against {self.protocol['reference']['name']}. They can be compared where features, "
            "reference and number are the same."
        )
        tables = [
            _table(table, ("these samples", steps, *(_cell(ours[name]) for name in table.scores)))
            for table in (CIFAR10, IMAGENET64)
        ]
        return "\n\n".join([*tables, f"{SOURCE}, as printed. {note}"])


def report(
    scores: Scores, samples: Measured, reference: Measured, features: Features, *, k: int, device: str
) -> Report:
    """Return the scores with their protocol and warnings."""
    protocol: dict[str, Any] = {
        "samples": samples.about,
        "reference": reference.about,
        "features": {
            "name": features.name,
            "number": len(samples.mean),
            "sha256": features.sha256,
            "input": features.how,
            "dtype": "float32",
        },
        "frechet_distance": {"of": "means and covariances (n - 1) of all images", "dtype": "float64"},
    }
    if samples.features is not None and reference.features is not None:
        pairs = {"samples": len(samples.features), "reference": len(reference.features), "dtype": "float64"}
        form = "unbiased, kernel (x.y/d + 1)^3, all pairs at once; not times 1000"
        protocol["kernel_distance"] = {"form": form, **pairs}
        protocol["precision_recall"] = {"k": k, **pairs}
    if samples.probabilities is not None:
        form = f"all samples at once; and mean, standard deviation of {PARTS} parts in their order"
        protocol["inception_score"] = {"form": form, "classes": samples.probabilities.shape[1], "dtype": "float32"}
    protocol["device"] = device
    protocol["ict_ref"] = __version__
    left_out = (f"left out: {line}" for line in scores.left_out)
    warnings = (*_count_warnings(samples, reference), *_difference_warnings(samples, reference), *left_out)
    return Report(scores, protocol, warnings)


def scored_by(reference: Measured, features: Features, device: str) -> dict[str, Any]:
    """Return the part of a description that scores of any samples have, with the version."""
    return {
        "ict_ref": __version__,
        "reference": reference.about,
        "features": {"name": features.name, "sha256": features.sha256},
        # Descriptions without a device are of the CPU.
        **({} if device == "cpu" else {"device": device}),
    }


def _count_warnings(samples: Measured, reference: Measured) -> Iterator[str]:
    """Yield warnings about too few images."""
    if samples.count is not None and samples.count < PUBLISHED_COUNT:
        published = f"published scores are of {PUBLISHED_COUNT}: a Frechet distance of fewer is larger"
        yield f"{samples.count} samples; {published}"
    for name, of in (("samples", samples), ("reference", reference)):
        if of.count is not None and of.count <= len(of.mean):
            yield f"{of.count} images in the {name} for {len(of.mean)} features: their covariance is singular"


def _difference_warnings(samples: Measured, reference: Measured) -> Iterator[str]:
    """Yield warnings about features or image sizes that may differ between the samples and the reference."""
    if "pixels_sha256" not in reference.about or "moments" in reference.about:
        yield f"{reference.about['name']} has statistics of unknown features, which may differ from these"
    here, there = (of.about.get("image", [0, 0, 0])[1:] for of in (samples, reference))
    if [0, 0] not in (here, there) and here != there:
        yield f"samples are {here[1]}x{here[0]} and the reference {there[1]}x{there[0]}"


def _table(table: PaperTable, ours: tuple[str, ...]) -> str:
    lines = [table.title]
    for name, *cells in (("", "steps", *table.scores), ours, *table.rows):
        lines.append(f"{name:<30}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _plain(value: object) -> str:
    return "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
