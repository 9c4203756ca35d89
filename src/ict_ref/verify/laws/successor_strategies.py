"""The inputs of the laws of iCT's successors, as Hypothesis strategies; laws name them as `more.pairs`.

Inputs that the laws of iCT use too are in `strategies`. Examples, levels and fractions have matching shapes.
"""

import hypothesis.strategies as st
import torch

from ict_ref.verify.laws import strategies as some

# ECT: levels without a grid, the numbers of its mapping, and its stages
levels = some.vectors(st.one_of(st.floats(1e-3, 100.0), st.sampled_from([0.002, 1.0, 80.0])), 8)
exponents = st.integers(1, 10)
qs = st.one_of(st.sampled_from([2.0, 4.0]), st.floats(1.5, 8.0))
ks = st.one_of(st.sampled_from([8.0, 0.0]), st.floats(0.5, 20.0))
bs = st.one_of(st.just(1.0), st.floats(0.25, 4.0))
fractions = st.floats(0.01, 0.99)
stage_lengths = st.integers(1, 50_000)
stages = st.integers(0, 20)
updates = st.integers(0, 10**6)
# u is not at the ends of (0, 1), where a quantile magnifies the rounding of u.
inner_uniforms = some.vectors(st.integers(1, 2**20 - 1).map(lambda k: k / 2**20), 12)
level_means = some.decimals(-2.0, 1.0)
level_stds = st.floats(1.0, 3.0)
example_levels = some.per_example(st.one_of(st.floats(0.01, 80.0), st.sampled_from([1.0, 80.0])))
# r/t of each example; 0 is denoising.
ratios = some.per_example(st.one_of(st.just(0.0), st.floats(0.05, 0.95)))
ratios_above_0 = some.per_example(st.floats(0.05, 0.95))
weights = some.per_example(st.floats(0.1, 10.0))
powers = st.floats(0.0, 2.0)

# TrigFlow: angles, and what belongs to one update
angles = some.vectors(st.floats(0.01, 1.56), 8)
noise_levels = some.vectors(st.one_of(st.floats(0.01, 80.0), st.sampled_from([0.5, 80.0])), 8)
example_angles = some.per_example(st.floats(0.05, 1.5))
parts = st.floats(0.1, 0.9)
warmups = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))
data_stds = st.one_of(st.just(0.5), st.floats(0.2, 2.0))
log_weights = some.per_example(st.floats(-3.0, 3.0))
norms = some.per_example(st.floats(0.01, 100.0))
sizes = st.integers(1, 4096)
warmup_lengths = st.integers(1, 20_000)
tangent_constants = st.floats(0.01, 2.0)
descending_angles = st.lists(st.integers(1, 155), min_size=1, max_size=4, unique=True).map(
    lambda drawn: torch.tensor(sorted((k / 100 for k in drawn), reverse=True), dtype=torch.float64)
)

# TCM: cuts, degrees of freedom, and batches of which some examples are at the cut
cuts = st.floats(0.1, 10.0)
dofs = st.one_of(st.just(0.01), st.floats(0.01, 20.0))
scales = st.one_of(st.just(0.2), st.floats(0.1, 2.0))
centres = some.decimals(-1.0, 1.0)
boundary_weights = st.one_of(st.just(0.1), st.floats(0.0, 10.0))
boundaries = st.builds(
    lambda inner, outer, turn: torch.arange(inner + outer).roll(turn) < outer,
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(0, 11),
)
