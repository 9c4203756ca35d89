import numpy as np
import pytest

from ict_ref.utils.rng import Purpose, stream


def test_a_stream_depends_on_each_of_its_four_coordinates() -> None:
    streams = [
        stream(0, "noise", 0, 0),
        stream(1, "noise", 0, 0),
        stream(0, "dropout", 0, 0),
        stream(0, "noise", 1, 0),
        stream(0, "noise", 0, 1),
    ]
    assert len({float(generator.random()) for generator in streams}) == len(streams)


def test_a_stream_repeats_whatever_was_sampled_before() -> None:
    first = stream(7, "noise", 3, 2).standard_normal(5)
    stream(7, "noise", 4, 2).standard_normal(100)
    assert np.array_equal(stream(7, "noise", 3, 2).standard_normal(5), first)


def test_neighbouring_streams_are_not_shifted_copies() -> None:
    # Counters that were too close would let one stream run into the next.
    here, there = stream(0, "noise", 0, 0).random(1000), stream(0, "noise", 0, 1).random(1000)
    assert len(np.intersect1d(here, there)) == 0


def test_the_values_of_a_stream_are_fixed() -> None:
    # NumPy's Philox 4x64 with key 0 and counter (0, shard, step, purpose), whose definition is Salmon et al. 2011.
    expected = np.random.Philox(key=0, counter=[0, 5, 4, 3]).random_raw(3)
    assert np.array_equal(stream(0, "noise", 4, 5).bit_generator.random_raw(3), expected)


def test_the_numbers_of_the_purposes_are_fixed() -> None:
    # Renumbered, they would make every old run another one.
    purposes: list[Purpose] = [
        "parameters", "order", "noise level", "noise", "dropout", "sample", "baseline", "flip", "data", "edit",
        "label",
    ]  # fmt: skip
    for number, purpose in enumerate(purposes):
        expected = np.random.Philox(key=9, counter=[0, 2, 1, number]).random_raw(2)
        assert np.array_equal(stream(9, purpose, 1, 2).bit_generator.random_raw(2), expected)


@pytest.mark.parametrize("arguments", [(-1, "noise", 0, 0), (0, "noise", -1, 0), (0, "noise", 0, -1)])
def test_negative_coordinates_are_rejected(arguments: tuple[int, "str", int, int]) -> None:
    seed, _, step, shard = arguments
    with pytest.raises(ValueError, match="Count from 0"):
        stream(seed, "noise", step, shard)
