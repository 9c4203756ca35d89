"""Networks of the user's own: how they are called, what is noted of them, and which are rejected."""

import hashlib
import re

import pytest
import torch
from tests.support import own
from torch import Tensor, nn

from ict_ref.networks.dropout import draw_masks
from ict_ref.networks.own import OwnNetwork, OwnNetworkLike, own_network

MODULE = "tests.support.own"


class Recorder(nn.Module):
    """A network of any arguments that keeps them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: tuple[object, ...] = ()

    def forward(self, *arguments: Tensor) -> Tensor:
        self.seen = arguments
        return arguments[0]


class OfTwo(Recorder):
    def forward(self, x: Tensor, c_noise: Tensor, *, spare: int = 0) -> Tensor:  # type: ignore[override]
        return super().forward(x, c_noise)


class OfThree(Recorder):
    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, c_noise, labels)


class OfFive(Recorder):
    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor, masks: Tensor, spare: int = 0) -> Tensor:  # type: ignore[override]
        return super().forward(x, c_noise, labels, masks)


@pytest.mark.parametrize(("kind", "count"), [(OfTwo, 2), (OfThree, 3), (OfFive, 4), (Recorder, 4)])
def test_a_network_is_called_with_as_many_arguments_as_it_takes(kind: type[Recorder], count: int) -> None:
    network = own_network(kind)
    assert isinstance(network.module, Recorder)
    x, c_noise, labels = torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    network(x, c_noise, labels, (mask,))
    given = network.module.seen
    assert len(given) == count
    assert all(one is other for one, other in zip(given, (x, c_noise, labels), strict=False))
    network(x, c_noise, labels, ())
    assert network.module.seen[3:] == (None,) * (count - 3)  # without sites there are no masks
    assert network.takes_labels is (count > 2)


def test_a_copy_is_trained_and_built_networks_are_a_function_of_the_seed() -> None:
    given = own.Plain()
    network = own_network(given)
    assert network.module is not given
    assert all(torch.equal(network.module.state_dict()[name], value) for name, value in given.state_dict().items())
    before = torch.get_rng_state()
    first, again, other = (own_network(own.Plain, seed=seed).module.state_dict() for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first["first.weight"], again["first.weight"])
    assert not torch.equal(first["first.weight"], other["first.weight"])


def test_the_note_has_the_name_and_a_checksum_of_names_and_shapes() -> None:
    lines = ["first.bias (4,)", "first.weight (4, 2, 3, 3)", "last.bias (1,)", "last.weight (1, 4, 3, 3)"]
    sha256 = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    for given, name in (
        (own.Plain, f"{MODULE}:Plain"),
        (f"{MODULE}:INSTANCE", f"{MODULE}:INSTANCE"),
        (own.Plain(), None),
        (lambda: own.Plain(), None),
    ):
        note = own_network(given).note()
        assert (note.name, note.sha256) == (name, sha256)
    assert own_network(own.Wide).note().sha256 != sha256


def test_masks_are_given_at_the_places_that_a_network_lists() -> None:
    network = own_network(own.Dropping)
    network.check((1, 8, 8), labels=False)
    x, c_noise = torch.ones(2, 1, 8, 8), torch.zeros(2)
    masks = draw_masks(network.dropout_sites(), 2, key=1)
    assert not torch.equal(network(x, c_noise, None, masks), network(x, c_noise))
    assert own_network(own.Plain).dropout_sites() == []


@pytest.mark.parametrize("kind", [own.Plain, own.Dropping])
def test_networks_that_can_be_trained_pass(kind: type[nn.Module]) -> None:
    network = own_network(kind)
    network.check((1, 8, 8), labels=False)
    network.check_gradients((1, 8, 8), labels=False)
    own_network(own.Labelled).check_gradients((1, 8, 8), labels=True)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (f"{MODULE}:missing", f"expected {MODULE}:missing as module:callable, got AttributeError"),
        ("no_such_module:Net", "expected no_such_module:Net as module:callable, got ModuleNotFoundError: No module"),
        ("net.py", "expected module:callable, got net.py"),
        (f"{MODULE}:NUMBER", f"expected a callable, got {MODULE}:NUMBER, which is int"),
        (f"{MODULE}:failing", f"{MODULE}:failing failed: KeyError: 'weights'"),
        (own.failing, f"{MODULE}:failing failed: KeyError: 'weights'"),
        (own.nothing, f"expected a torch module from {MODULE}:nothing, got str"),
        (
            nn.Identity,
            "expected a module called with x, c_noise and at most labels and masks, got .*Identity with 1",
        ),
    ],
)
def test_what_is_not_a_network_is_one_line(given: OwnNetworkLike, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^--network: {complaint}") as error:
        own_network(given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (own.Random, "expected a network that draws no random numbers, got draws in .*:Random. Student and teacher"),
        (own.Changing, "expected tensors that a call does not change, got .'norm.running_mean'. in .*:Changing. Batch"),
        (
            own.Flat,
            r"expected floats of shape \(2, 1, 8, 8\), as the input's, got torch.float32 \(2, 64\) from ",
        ),
        (own.Failing, r".*:Failing failed on images of shape \(2, 1, 8, 8\): RuntimeError: no such luck$"),
        (OfTwo, "expected a module with parameters, got .*:OfTwo"),
    ],
)
def test_a_network_that_cannot_be_used_is_one_line(kind: type[nn.Module], complaint: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=f"^--network: {complaint}") as error:
        own_network(kind).check((1, 8, 8), labels=False)
    assert "\n" not in str(error.value)
    assert kind is own.Random or torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (own.Unused, "expected parameters on which every result depends, got spare of .*:Unused. Leave it out"),
        (own.Frozen, "expected parameters that require a gradient, got last.bias of .*:Frozen without one"),
    ],
)
def test_a_network_whose_parameters_do_not_all_learn_is_one_line(kind: type[nn.Module], complaint: str) -> None:
    network = own_network(kind)
    network.check((1, 8, 8), labels=False)  # it can be sampled
    with pytest.raises(ValueError, match=f"^--network: {complaint}"):
        network.check_gradients((1, 8, 8), labels=False)


def test_the_error_of_a_name_keeps_the_user_s_traceback() -> None:
    with pytest.raises(ValueError, match=re.escape("failed")) as error:
        own_network(f"{MODULE}:failing")
    assert isinstance(error.value.__cause__, KeyError)


def test_names_that_cannot_be_imported_again_are_not_noted() -> None:
    class Local(own.Plain):
        pass

    assert own_network(Local).name is None
    assert isinstance(own_network(Local), OwnNetwork)
