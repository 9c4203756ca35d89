"""Our networks equal the authors': what their public modules returned in float64, ours return on the same weights."""

import numpy as np
import pytest
import torch
from tests.support.published import FULL, SMALL, fixture, given, import_options_of, imported, relative, state_of

from ict_ref.networks.published import read

TOLERANCE = 1e-10
"""A group normalisation's epsilon of 1e-5 for 1e-6 moves an output by 3e-5, other errors by 4 % and more."""


# The large ADM's 300 million weights take longest to draw: `nox -s thorough`.
MARKS = {"adm_full_b3": pytest.mark.thorough, "ncsnpp_full_b4": pytest.mark.slow}
LARGE = [pytest.param(name, marks=MARKS[name]) for name in FULL]


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_the_output_is_the_authors(name: str) -> None:
    network, arrays = imported(name).model(torch.float64).network, fixture(name)
    with torch.no_grad():
        out = network(torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["sigma"]).log() / 4, given(name, "y"))
    assert relative(out, arrays["out"]) < TOLERANCE
    assert sum(parameter.numel() for parameter in network.parameters()) == int(arrays["n_params"])


@pytest.mark.parametrize("name", SMALL)
def test_the_consistency_function_is_the_authors_and_the_identity_at_sigma_min(name: str) -> None:
    arrays = fixture(name)
    x, sigma = torch.from_numpy(arrays["x_t"]), torch.from_numpy(arrays["sigma"])
    f = imported(name).model(torch.float64)(x, sigma, given(name, "y"))
    assert relative(f, arrays["f"]) < TOLERANCE
    lowest = sigma == 0.002
    assert bool(lowest.any())
    assert torch.equal(f[lowest], x[lowest])


@pytest.mark.parametrize("name", SMALL)
def test_gradients_by_the_input_and_by_every_parameter_are_the_authors(name: str) -> None:
    # Through the importer, which only renames and reorders: so the gradients are by the authors' own tensors.
    arrays = fixture(name)
    theirs = {key: value.requires_grad_(key != "map_noise.freqs") for key, value in state_of(name).items()}
    weights = read(theirs, import_options_of(name))
    x = torch.from_numpy(arrays["x"]).requires_grad_()
    args = (x, torch.from_numpy(arrays["sigma"]).log() / 4, given(name, "y"))
    out = torch.func.functional_call(weights.model(torch.float64).network, dict(weights.state), args)
    torch.autograd.backward((out * torch.from_numpy(arrays["v"])).sum())
    assert x.grad is not None
    assert relative(x.grad, arrays["dx"]) < TOLERANCE
    norms = {key: float(value.grad.norm()) for key, value in theirs.items() if value.grad is not None}
    assert list(norms) == arrays["dparam_keys"].tolist()
    expected = arrays["dparam_norms"]  # some are 0 but for rounding: biases before a normalisation, of keys
    np.testing.assert_allclose(list(norms.values()), expected, rtol=TOLERANCE, atol=1e-12 * expected.max())


@pytest.mark.parametrize("name", SMALL)
def test_dropout_acts_in_the_authors_places_and_order(name: str) -> None:
    arrays = fixture(name)
    network = imported(name).model(torch.float64).network
    masks = []
    for site in network.dropout_sites():
        shape = (3, site.channels, site.height, site.width)
        flat = np.arange(np.prod(shape)) * 0.6180339887498949 % 1 >= site.rate
        masks.append(torch.from_numpy(flat.reshape(shape)))
    acting = arrays["dropout_shapes"][arrays["dropout_rates"] > 0]
    assert [list(mask.shape) for mask in masks] == acting.tolist()
    sigma = torch.from_numpy(arrays["sigma"])
    out = network(torch.from_numpy(arrays["x"]), sigma.log() / 4, given(name, "y"), tuple(masks))
    assert relative(out, arrays["out_dropout"]) < TOLERANCE
