"""Names and signatures of earlier versions of the vectors, so that laws can call a target that still has them.

Laws and `ict_ref.formulas` use the names of the newest version. Each version's vectors and trace contain the names of
that version. A function that is not in the table of a version had the same name and the same arguments in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ict_ref.verify.vectors.load import VERSION


@dataclass(frozen=True)
class Signature:
    """The name and the arguments of a current function in an earlier version."""

    function: str
    renamed: Mapping[str, str] = field(default_factory=dict)  # current argument names -> earlier names
    copied: Mapping[str, str] = field(default_factory=dict)  # earlier arguments -> current arguments of equal value
    fixed: Mapping[str, float] = field(default_factory=dict)  # earlier arguments without effect here

    def arguments(self, current: Mapping[str, object]) -> dict[str, object]:
        """Return the arguments of a call, given by the current names."""
        found = {self.renamed.get(name, name): value for name, value in current.items()}
        return found | {name: current[source] for name, source in self.copied.items()} | dict(self.fixed)


_CONTINUOUS = {"student": "f", "weights": "weight", "distance": "metric"}
_VERSION_1: dict[str, Signature] = {
    "continuous_consistency_distillation_loss": Signature("continuous_consistency_distillation_loss", _CONTINUOUS),
    "continuous_consistency_training_loss": Signature("continuous_consistency_training_loss", _CONTINUOUS),
    # One function for theta- = theta and theta- != theta.
    "ct_gradient_divergence": Signature("ct_gradient_limit", copied={"xi": "theta"}),
    "ct_gradient_limit": Signature("ct_gradient_limit", copied={"theta_minus": "theta"}),
    # Where xi = theta the next term is 0, as the divergent term is for theta- = theta.
    "ct_gradient_divergent_term": Signature(
        "ct_gradient_leading_term", copied={"xi": "theta"}, fixed={"delta_sigma": 0.01}
    ),
    "ct_gradient_leading_term": Signature("ct_gradient_leading_term", copied={"theta_minus": "theta"}),
    "edit": Signature("edit", {"reference": "y"}),
    "ema_update": Signature("ema_update", {"ema": "average"}),
    "fourier_embedding": Signature("fourier_embedding", {"c_noise": "c"}),
    "frechet_distance": Signature("frechet_distance", {"mean1": "mu1", "mean2": "mu2"}),
    "gaussian_mixture_score": Signature("gaussian_mixture_score", {"mixture_weights": "weights"}),
    "one_step_sample": Signature("one_step_sample", {"z": "noise"}),
    "positional_embedding": Signature("positional_embedding", {"c_noise": "c", "width": "dim"}),
    "search_intermediate_sigma": Signature("search_intermediate_sigma", {"objective": "score", "sigmas": "grid"}),
    "stroke_edit": Signature("stroke_edit", {"reference": "y"}),
}
SIGNATURES: dict[int, Mapping[str, Signature]] = {1: _VERSION_1, 2: {}, VERSION: {}}


def signature(function: str, version: int) -> Signature:
    """Return the signature of a current function in a version."""
    return SIGNATURES[version].get(function, Signature(function))


def chosen(text: str) -> int:
    """Return the version that a user names.

    Raises: ValueError if it does not exist.
    """
    versions = {str(version): version for version in sorted(SIGNATURES)}
    if text not in versions:
        raise ValueError(
            f"expected {', '.join(list(versions)[:-1])} or {VERSION}, got {text}; leave it out for version {VERSION}"
        )
    return versions[text]
