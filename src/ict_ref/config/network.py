"""The fields of a network, and the source of each default."""

from dataclasses import dataclass
from typing import Literal

from ict_ref.config.validate import at_least, expect

MOST_CHANNELS, MOST_BLOCKS, MOST_STAGES = 16_384, 64, 8
"""Largest network that is built: channels of a map, residual blocks of a resolution, and resolutions."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The U-Net F_theta (iCT, Appendix B)."""

    architecture: Literal["adm", "ncsnpp", "ddpmpp"] = "adm"
    """adm: the network of Dhariwal & Nichol 2021, which iCT uses on ImageNet 64x64. ncsnpp: NCSN++ of Song et al.
    2021, which iCT uses on CIFAR-10 (iCT, Appendix B). ddpmpp: DDPM++ of Song et al. 2021, which ECT uses on
    CIFAR-10."""
    embedding: Literal["positional", "fourier"] = "positional"
    """Embedding of the noise level: positional for ADM and DDPM++, fourier for NCSN++ (iCT, Section 3.1). The lowest
    frequency of DDPM++'s is 1/10000, as in EDM."""
    fourier_scale: float = 0.02
    """Standard deviation of the fixed Fourier frequencies: 0.02 in iCT (Section 3.1), 16 in CM's public code."""
    width: int = 192
    """Base number of channels. The stem of ADM has this number times the first multiplier. The noise embedding has
    this number of features, twice as many if it is fourier."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Channels of each resolution stage, as multiples of the width. Each stage halves the resolution of the one
    before."""
    blocks: int = 3
    """Residual blocks per resolution stage: on ImageNet 3, and 6 for iCT-deep; on CIFAR-10 4, and 8 for iCT-deep (iCT,
    Appendix B)."""
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    """Resolutions, in pixels, with attention after each block (in NCSN++'s decoder after the last block only). The
    middle always has attention. A resolution that no stage has is ignored."""
    head_channels: int = 64
    """Channels of an attention head: 64 in CM's public ImageNet code. 0: one head of all channels, as in NCSN++."""
    groups: int = 32
    """Groups of each group normalisation. NCSN++ and DDPM++ use fewer where a group would have less than 4 channels."""
    adaptive_norm: bool = False
    """Scale and shift the normalised map by the embedding (AdaGN) instead of adding the embedding before. CM's ADM
    does, iCT's ADM does not (iCT, Appendix B), NCSN++ and DDPM++ cannot."""
    dropout: float = 0.2
    """Dropout rate, the fraction of values that are dropped (iCT, Section 3.1)."""
    dropout_max_resolution: int = 16
    """Highest resolution, in pixels, with dropout (iCT, Section 3.1: 16x16)."""
    time_scale: float = 1.0
    """Factor on log(sigma) / 4, or on TrigFlow's angle, before the embedding: 1 in iCT (Section 3.1), 1000 in CM's
    public code."""

    def __post_init__(self) -> None:
        at_least(1, self, "network", "width", "groups", most=MOST_CHANNELS)
        at_least(1, self, "network", "blocks", most=MOST_BLOCKS)
        at_least(0, self, "network", "head_channels", "dropout_max_resolution")
        expect(self.width % 2 == 0, "network.width", "an even number", self.width)
        multipliers = self.multipliers
        positive = len(multipliers) >= 1 and min(multipliers) >= 1
        expect(positive, "network.multipliers", "integers >= 1", multipliers)
        few = len(multipliers) <= MOST_STAGES and self.width * max(multipliers) <= MOST_CHANNELS
        expect(few, "network.multipliers", f"at most {MOST_STAGES} stages and {MOST_CHANNELS} channels", multipliers)
        adm = self.architecture == "adm"
        adaptive = self.adaptive_norm
        expect(adm or not adaptive, "network.adaptive_norm", "False, as NCSN++ and DDPM++ have no AdaGN", adaptive)
        self._check_channels()
        expect(0 <= self.dropout < 1, "network.dropout", "0 <= rate < 1", self.dropout)
        scale = self.fourier_scale
        expect(0 < scale <= 1e6, "network.fourier_scale", "0 < scale <= 1e6", scale)
        time_scale = self.time_scale
        expect(abs(time_scale) <= 1e6, "network.time_scale", "a number between -1e6 and 1e6", time_scale)

    def _check_channels(self) -> None:
        adm = self.architecture == "adm"
        widths = {self.width * multiplier for multiplier in self.multipliers}
        for channels in sorted(widths):
            heads = self.head_channels == 0 or channels % self.head_channels == 0
            divisor = f"0 or a divisor of {channels} channels (width * multiplier)"
            expect(heads, "network.head_channels", divisor, self.head_channels)
        # A block of the decoder gets the channels of its own map and those of the encoder's map.
        stem = widths if adm else widths | {self.width}
        for channels in sorted(stem | {a + b for a in stem for b in stem}):
            expect(adm or channels >= 4, "network.width", "4 channels or more", self.width)
            groups = self.groups_of(channels)
            divisor = f"a divisor of {channels} channels, which a block has"
            expect(channels % groups == 0, "network.groups", divisor, groups)

    def groups_of(self, channels: int) -> int:
        """Return the number of groups in which `channels` channels are normalised."""
        return self.groups if self.architecture == "adm" else min(channels // 4, self.groups)
