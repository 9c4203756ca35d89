"""The figures of Section 3 from runs whose checkpoints have been scored, at any size."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ict_ref.checkpoint.run_dir import load_config
from ict_ref.config import Config
from ict_ref.evaluate.curve import NAME, Curve, read_curve
from ict_ref.figures.ablations import MAKERS
from ict_ref.figures.comparison import Comparison, verdict
from ict_ref.utils.file_format import difference
from ict_ref.utils.panel import Figure, Panel, Points
from ict_ref.utils.regular_file import real_path


def figure_from_runs(number: str, runs: Sequence[Path]) -> Figure:
    """Return a figure with a curve for each run: its Frechet distance by training step, or by N in Figure 3a.

    A run with the network and the method of one of the paper's runs in this figure has its name in the legend; any
    other run has the name of its folder.

    Raises:
        LaterFormatError: A later version of ict_ref wrote a file.
        ValueError: A run has no curve of scores, or the scores of two runs have different protocols.
        OSError: A file cannot be read.
    """
    scored = {run: read_curve(run / NAME) for run in runs}
    _refuse_other_protocols(scored)
    configs = {run: load_config(run) for run in runs}
    names = _names(number, configs)
    by_levels = number == "3a"
    curves = {names[run]: _points(curve, by_levels=by_levels) for run, curve in scored.items()}
    protocol = next(iter(scored.values())).protocol
    count, features, reference = protocol["samples"]["count"], protocol["features"]["name"], protocol["reference"]
    panel = Panel(
        f"{count} samples, {features}",
        "N(k), number of noise levels" if by_levels else "training step",
        "Frechet distance",
        curves,
        x_scale="log" if by_levels else "linear",
        y_scale="log",
        marks=tuple(curves),
    )
    sizes = "; ".join(
        f"{names[run]}: {run}, {config.data.name}, {config.train.steps} updates of {config.train.batch_size} images"
        for run, config in configs.items()
    )
    scale = (
        f"From runs: {sizes}. Frechet distance by {features} of {count} samples at noise levels "
        f"{', '.join(f'{sigma:g}' for sigma in protocol['samples']['sigmas'])}, seed {protocol['samples']['seed']}, "
        f"against {reference['name']}; lower is better."
    )
    return Figure(number, " ".join(filter(None, (_finding(number, curves), scale))), (panel,))


def _points(curve: Curve, *, by_levels: bool) -> Points:
    """Return the Frechet distance by training step, or by N(k); of several checkpoints with one N the last counts."""
    found: dict[float, float] = {}
    for point in curve.points:
        distance = point.scores["frechet_distance"]
        if distance is not None:
            found[float(point.levels if by_levels else point.step)] = distance
    return tuple(found.items())


def _names(number: str, configs: Mapping[Path, Config]) -> dict[Path, str]:
    """Return the name of each run in the legend; names that occur twice have the folder's name added."""
    maker = MAKERS[number]
    papers = maker.runs if isinstance(maker, Comparison) else {}
    names = {
        run: next((name for name, paper in papers.items() if _is_like(config, paper)), real_path(run).name)
        for run, config in configs.items()
    }
    taken = list(names.values())
    return {run: f"{name} ({run})" if taken.count(name) > 1 else name for run, name in names.items()}


def _is_like(config: Config, paper: Config) -> bool:
    return (config.network, config.method) == (paper.network, paper.method)


def _finding(number: str, curves: Mapping[str, Points]) -> str:
    """Return the paper's finding with the order of these runs, for the pairs of runs that are here."""
    maker = MAKERS[number]
    if not isinstance(maker, Comparison):
        return ""
    expected = [pair for pair in maker.expected if set(pair) <= curves.keys()]
    return f"{maker.claim} {verdict(curves, expected)}" if expected else maker.claim


def _refuse_other_protocols(scored: Mapping[Path, Curve]) -> None:
    """Reject scores that cannot be compared.

    Raises:
        ValueError: Two runs have scores by different protocols.
    """
    (first, curve), *others = scored.items()
    for run, other in others:
        if differs := difference(curve.protocol, other.protocol):
            name, here, there = differs
            raise ValueError(f"--from: expected scores with {name} {here}, as in {first}, got {there} in {run}")
