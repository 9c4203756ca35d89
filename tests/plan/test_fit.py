"""The setting that fits: the cheapest one whose predicted memory is in bounds."""

import dataclasses
from itertools import pairwise

import pytest

from ict_ref.config import Config, digits
from ict_ref.plan.fit import USABLE, Fit, fits, setting
from ict_ref.plan.memory import memory

pytestmark = pytest.mark.usefixtures("unchecked")


def config() -> Config:
    preset = digits()
    train = dataclasses.replace(preset.train, batch_size=384, noise_shards=24)
    return dataclasses.replace(preset, train=train, machine=dataclasses.replace(preset.machine, device="cpu"))


def every(processes: int) -> list[Fit]:
    """Return every allowed setting, the cheapest first: 24 shards have the divisors 1, 2, 3, 4, 6, 8, 12, 24."""
    counts = [count for count in range(1, 25) if 24 % (count * processes) == 0]
    return [
        setting(config(), processes=processes, accumulate=count, recompute=recompute)
        for recompute in (False, True)
        for count in counts
    ]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_setting_fits_and_a_cheaper_one_does_not(processes: int) -> None:
    settings = every(processes)
    totals = [fit.memory.total for fit in settings]
    for total in totals:
        free = total / USABLE
        for bytes_free in (int(free) + 1, int(free * 1.01)):
            found = fits(config(), processes=processes, bytes_free=bytes_free)
            place = settings.index(found)
            assert found.memory.total <= USABLE * bytes_free
            assert all(cheaper > USABLE * bytes_free for cheaper in totals[:place])
            assert 24 % (processes * found.accumulate) == 0
            assert found.images == 384 // (processes * found.accumulate)


def test_more_memory_never_costs_more() -> None:
    settings = every(2)
    least, most = min(fit.memory.total for fit in settings), max(fit.memory.total for fit in settings)
    sizes = range(int(least / USABLE) + 1, int(1.2 * most / USABLE), int(most / 40))
    places = [settings.index(fits(config(), processes=2, bytes_free=size)) for size in sizes]
    assert all(after <= before for before, after in pairwise(places))
    assert places[0] > 6  # with recomputation
    assert places[-1] == 0


def test_given_values_are_kept() -> None:
    plenty = 1 << 40
    assert fits(config(), processes=1, bytes_free=plenty) == setting(
        config(), processes=1, accumulate=1, recompute=False
    )
    found = fits(config(), processes=1, bytes_free=plenty, accumulate=4, recompute=True)
    assert (found.accumulate, found.recompute, found.images) == (4, True, 96)
    assert found.memory == memory(config(), accumulate=4, recompute=True)
    assert fits(config(), processes=1, bytes_free=plenty, recompute=True).accumulate == 1
    small = int(setting(config(), processes=1, accumulate=12, recompute=False).memory.total / USABLE) + 1
    assert not fits(config(), processes=1, bytes_free=small, recompute=False).recompute
    assert fits(config(), processes=1, bytes_free=small, accumulate=8).recompute


def test_what_does_not_fit_is_one_line_with_numbers() -> None:
    with pytest.raises(ValueError, match="microbatch") as caught:
        fits(config(), processes=2, bytes_free=3 << 20)
    message = str(caught.value)
    assert "\n" not in message
    assert "--machine.accumulate: expected an update of at most 0.0 GiB" in message
    assert "16 images per microbatch in each of 2 processes with --machine.recompute" in message
    assert "--job.nodes" in message
    assert "--train.noise-shards" in message
    with pytest.raises(ValueError, match=r"Do not give --machine\.accumulate"):
        fits(config(), processes=2, bytes_free=3 << 20, accumulate=2)


def test_shards_must_divide() -> None:
    for processes, accumulate in ((5, None), (2, 5)):
        with pytest.raises(ValueError, match=r"--train\.noise-shards: expected a multiple of"):
            fits(config(), processes=processes, bytes_free=1 << 40, accumulate=accumulate)
