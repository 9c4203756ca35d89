"""The laws of the reference with many seeds: `nox -s seeds`, hours of one core.

Each law runs with each seed of three plans: the laws that divide or multiply their inputs on 1 000 examples with 100
seeds, all laws on 50 examples with 100 seeds, and all laws on 1 000 examples with 5 seeds. Results are appended to a
file, so that the same command resumes a stopped session; a law that failed, or whose module or whose inputs changed
since, runs again. The session ends with a table, and with status 1 if a law failed.
"""

import argparse
import ast
import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import hypothesis
import numpy as np
import torch
from tqdm import tqdm

import ict_ref.formulas
from ict_ref.verify.checks.law import Law
from ict_ref.verify.checks.run_laws import EXAMPLES, THOROUGH_EXAMPLES, check_law
from ict_ref.verify.laws import LAWS, strategies

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / ".nox" / "law-seeds.jsonl"
# The laws that divide or multiply their inputs: where tolerances of the wrong quantity, cancellation and subnormal
# numbers show.
SCALING = (
    "boundary_parameterization:hands_the_network_unit_variance_and_log_sigma",
    "c_in:has_the_inverse_of_the_unit",
    "c_in:makes_the_variance_1",
    "c_noise:is_a_quarter_of_the_logarithm",
    "c_out:becomes_edm_s_out_without_sigma_min",
    "c_skip:becomes_edm_s_without_sigma_min",
    "c_skip:does_not_see_the_units",
    "consistency_matching_loss:is_weighted_by_its_own_cell",
    "consistency_training_loss:is_weighted_by_its_own_cell",
    "continuous_consistency_distillation_loss:is_weighted_per_example",
    "continuous_consistency_training_loss:is_weighted_per_example",
    "cosine_curriculum:depends_on_the_share_of_the_training",
    "ct_gradient_divergence:depends_on_the_sign_of_the_difference_alone",
    "ct_gradient_divergent_term:is_proportional_to_the_difference",
    "ct_gradient_divergent_term:is_the_derivative_of_the_loss_limit",
    "ct_gradient_leading_term:is_delta_sigma_times_a_slope",
    "ct_gradient_limit:pulls_theta_to_the_data",
    "ct_loss_limit:is_a_square_between_0_and_the_difference",
    "ema_update:has_a_closed_form",
    "gaussian_mixture_score:is_that_of_one_for_equal_components",
    "inverse_gap_weights:scale_inversely",
    "inverse_gap_weights:undo_the_gap",
    "kernel_distance:grows_with_the_third_power_of_a_shift",
    "linear_curriculum:depends_on_the_share_of_the_training",
    "lognormal_pmf:is_scale_free",
    "log_sigma_density:does_not_see_the_units",
    "one_step_sample:asks_f_at_sigma_max",
    "probability_flow_drift:is_the_residual_of_the_denoiser",
    "pseudo_huber:is_a_parabola_for_small_differences",
    "pseudo_huber:scales_with_its_constant",
    "pseudo_huber_constant:doubles_for_four_times_the_values",
    "pseudo_huber_constant:is_that_of_one_value_times_the_root",
    "sigma_grid:is_equally_spaced_in_roots",
    "sigma_grid:is_linear_for_rho_1",
    "sigma_grid:scales_with_the_units",
    "sqrt_curriculum:depends_on_the_share_of_the_training",
    "square_curriculum:depends_on_the_share_of_the_training",
    "squared_l2:scales_by_the_square",
    "teacher_ema_decay:is_mu0_to_the_power_of_s0_over_n",
    "teacher_ema_decay:turns_sums_into_products",
    "uniform_pmf:sees_only_how_many_levels_there_are",
)


Key: TypeAlias = tuple[str, int, int, str, str]
"""Law, number of examples, seed, checksum of the code and versions."""


@dataclass(frozen=True)
class Plan:
    """Laws, the number of examples of each, and the seeds 1, ..., n."""

    name: str
    laws: tuple[Law, ...]
    examples: int
    seeds: int


@dataclass(frozen=True)
class Run:
    """One law with one seed."""

    law: str
    examples: int
    seed: int
    source: str
    """The checksum of the module of the law and of that of the inputs."""
    environment: str
    status: str = ""
    seconds: float = 0.0
    message: str = ""

    def key(self) -> Key:
        """Return what a result must be of to count for this run."""
        return self.law, self.examples, self.seed, self.source, self.environment


def plans() -> tuple[Plan, ...]:
    """Return all plans, those first that find most."""
    scaling = tuple(law for law in LAWS if law.name in SCALING)
    return (
        Plan("scaling", scaling, THOROUGH_EXAMPLES, 100),
        Plan("default", LAWS, EXAMPLES, 100),
        Plan("thorough", LAWS, THOROUGH_EXAMPLES, 5),
    )


@cache
def checksum(module: str) -> str:
    """Return a short checksum of a module of laws and of the module of their inputs, without their comments."""
    files = (str(sys.modules[module].__file__), str(strategies.__file__))
    trees = (ast.dump(ast.parse(Path(file).read_text())) for file in files)
    return hashlib.sha256("".join(trees).encode()).hexdigest()[:12]


def environment() -> str:
    """Return the versions that examples and rounding depend on."""
    return f"hypothesis {hypothesis.__version__}, torch {torch.__version__}, numpy {np.__version__}"


def runs(plan: Plan) -> Iterator[tuple[Law, Run]]:
    """Yield each law with each seed of a plan, seed by seed."""
    for seed in range(1, plan.seeds + 1):
        for law in plan.laws:
            yield law, Run(law.name, plan.examples, seed, checksum(law.statement.__module__), environment())


def finished(path: Path) -> dict[Key, Run]:
    """Return the runs of a file that passed."""
    return {run.key(): run for run in _read(path) if run.status == "pass"}


def _read(path: Path) -> Iterator[Run]:
    """Yield the runs of a file, in order; a line of a session that was killed may be incomplete."""
    for line in path.read_text().splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError, TypeError):
            yield Run(**json.loads(line))


def run_all(chosen: Sequence[Plan], path: Path) -> None:
    """Run what the file does not have, and append each result to it."""
    known = finished(path)
    ahead = [pair for plan in chosen for pair in runs(plan) if pair[1].key() not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and not path.read_text().endswith("\n"):
        path.write_text(path.read_text() + "\n")  # after a line that was not finished
    # Examples, not laws, measure the time that is left.
    total = sum(run.examples for _, run in ahead)
    with path.open("a") as file, tqdm(total=total, unit=" examples", smoothing=0.02) as progress:
        for law, run in ahead:
            progress.set_postfix_str(f"seed {run.seed} {law.name}"[:60], refresh=False)
            begun = time.monotonic()
            function = getattr(ict_ref.formulas, law.function)
            result = check_law(law, function, examples=run.examples, seed=run.seed)
            done = asdict(run) | {"status": result.status, "message": result.message}
            done["seconds"] = round(time.monotonic() - begun, 2)
            print(json.dumps(done), file=file, flush=True)
            progress.update(run.examples)


def table(chosen: Sequence[Plan], path: Path) -> tuple[str, bool]:
    """Return the table of results, and whether every law passed with every seed."""
    known, lines, right = finished(path), [f"{environment()}"], True
    lines.append(f"{'plan':10} {'laws':>5} {'examples':>9} {'seeds':>6} {'complete':>9} {'passed':>14} {'hours':>6}")
    for plan in chosen:
        every = [run for _, run in runs(plan)]
        passed = [known[run.key()] for run in every if run.key() in known]
        complete = sum(
            all(run.key() in known for run in every if run.seed == seed) for seed in range(1, plan.seeds + 1)
        )
        hours = sum(run.seconds for run in passed) / 3600
        share = f"{len(passed)}/{len(every)}"
        lines.append(
            f"{plan.name:10} {len(plan.laws):5} {plan.examples:9} {plan.seeds:6} {complete:9} {share:>14} {hours:6.2f}"
        )
        right = right and len(passed) == len(every)
    return "\n".join(lines), right


def failures(path: Path, known: dict[Key, Run]) -> list[str]:
    """Return the messages of the runs of today's laws that did not pass since."""
    today = {law.name: checksum(law.statement.__module__) for law in LAWS}
    found = {
        run.key(): f"seed {run.seed}, {run.examples} examples: {run.status}: {run.message}"
        for run in _read(path)
        if today.get(run.law) == run.source and run.environment == environment() and run.key() not in known
    }
    return list(found.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plans, print the table and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.law_seeds", description=str(__doc__).split("\n")[0])
    names = [plan.name for plan in plans()]
    parser.add_argument("--plan", choices=names, action="append", help="run this plan alone (may be repeated)")
    parser.add_argument("--seeds", type=int, help="run only the seeds 1, ..., SEEDS of each plan")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="file of results (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="print the table of the file and run nothing")
    options = parser.parse_args(arguments)
    chosen = [
        Plan(plan.name, plan.laws, plan.examples, min(plan.seeds, options.seeds or plan.seeds))
        for plan in plans()
        if not options.plan or plan.name in options.plan
    ]
    if not options.table:
        run_all(chosen, options.out)
    text, right = table(chosen, options.out)
    print("\n".join([*failures(options.out, finished(options.out)), text]))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
