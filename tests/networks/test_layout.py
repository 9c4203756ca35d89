"""The blocks of small networks, written out by hand from Song et al. 2021 and Dhariwal & Nichol 2021."""

import dataclasses

from ict_ref.config import Network
from ict_ref.networks.layout import unet_blocks

SMALL = Network(
    architecture="ncsnpp", width=8, multipliers=(1, 2), blocks=2, attention_resolutions=(8,), head_channels=0, groups=2
)


def rows(options: Network) -> list[tuple[str, str, int, int, bool]]:
    """Return name, resampling, stage, channels and attention of each block, for images of 16x16."""
    return [(b.name, b.way, b.stage, b.channels, b.attends) for b in unet_blocks(options, 16)]


def test_the_blocks_of_ncsnpp_are_in_the_order_of_the_forward_pass() -> None:
    assert rows(SMALL) == [
        ("encoder.0", "none", 0, 8, False),
        ("encoder.1", "none", 0, 8, False),
        ("encoder.2", "down", 1, 8, False),
        ("encoder.3", "none", 1, 16, True),
        ("encoder.4", "none", 1, 16, True),
        ("middle.0", "none", 1, 16, True),
        ("middle.1", "none", 1, 16, False),
        ("decoder.0", "none", 1, 16, False),
        ("decoder.1", "none", 1, 16, False),
        ("decoder.2", "none", 1, 16, True),
        ("decoder.3", "up", 0, 16, False),
        ("decoder.4", "none", 0, 8, False),
        ("decoder.5", "none", 0, 8, False),
        ("decoder.6", "none", 0, 8, False),
    ]


def test_adm_has_attention_after_each_block_of_a_low_resolution_in_the_decoder_too() -> None:
    adm = rows(dataclasses.replace(SMALL, architecture="adm"))
    attending = [name for name, *_, attends in adm if attends]
    assert attending == ["encoder.3", "encoder.4", "middle.0", "decoder.0", "decoder.1", "decoder.2"]
    assert [row[:4] for row in adm] == [row[:4] for row in rows(SMALL)]
