"""Tables 2 and 3 as printed in the paper; a star marks methods that its authors implemented again."""

from dataclasses import dataclass

SOURCE = "iCT, Section 4, Tables 2 and 3"


@dataclass(frozen=True)
class PaperTable:
    """One of the tables: methods, steps (NFE) and scores; a missing score is empty."""

    title: str
    scores: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _rows(text: str, columns: int) -> tuple[tuple[str, ...], ...]:
    """Return one row per line, with cells between "|"; a row without a method repeats the method above."""
    rows: list[tuple[str, ...]] = []
    for line in text.strip().splitlines():
        method, *cells = (cell.strip() for cell in line.split("|"))
        if len(cells) != columns:
            raise ValueError(f"row: expected {columns} cells after the method, got {line}")
        rows.append((method or rows[-1][0], *cells))
    return tuple(rows)


CIFAR10 = PaperTable(
    "Table 2: unconditional samples, CIFAR-10",
    ("FID", "IS"),
    _rows(
        """
        DDIM                         |   10 | 13.36 |
        DPM-solver-fast              |   10 |  4.70 |
        3-DEIS                       |   10 |  4.17 |
        UniPC                        |   10 |  3.87 |
        Knowledge Distillation       |    1 |  9.36 |
        DFNO (LPIPS)                 |    1 |  3.78 |
        2-Rectified Flow (+distill)  |    1 |  4.85 | 9.01
        TRACT                        |    1 |  3.78 |
                                     |    2 |  3.32 |
        Diff-Instruct                |    1 |  4.53 | 9.89
        PD*                          |    1 |  8.34 | 8.69
                                     |    2 |  5.58 | 9.05
        CD (LPIPS)                   |    1 |  3.55 | 9.48
                                     |    2 |  2.93 | 9.75
        Score SDE                    | 2000 |  2.38 | 9.83
        Score SDE (deep)             | 2000 |  2.20 | 9.89
        DDPM                         | 1000 |  3.17 | 9.46
        LSGM                         |  147 |  2.10 |
        PFGM                         |  110 |  2.35 | 9.68
        EDM*                         |   35 |  2.04 | 9.84
        EDM-G++                      |   35 |  1.77 |
        IGEBM                        |   60 | 40.6  | 6.02
        NVAE                         |    1 | 23.5  | 7.18
        Glow                         |    1 | 48.9  | 3.92
        Residual Flow                |    1 | 46.4  |
        BigGAN                       |    1 | 14.7  | 9.22
        StyleGAN2                    |    1 |  8.32 | 9.21
        StyleGAN2-ADA                |    1 |  2.92 | 9.83
        CT (LPIPS)                   |    1 |  8.70 | 8.49
                                     |    2 |  5.83 | 8.85
        iCT                          |    1 |  2.83 | 9.54
                                     |    2 |  2.46 | 9.80
        iCT-deep                     |    1 |  2.51 | 9.76
                                     |    2 |  2.24 | 9.89
        """,
        3,
    ),
)

IMAGENET64 = PaperTable(
    "Table 3: class-conditional samples, ImageNet 64x64",
    ("FID", "precision", "recall"),
    _rows(
        """
        DDIM            |   50 | 13.7  | 0.65 | 0.56
                        |   10 | 18.3  | 0.60 | 0.49
        DPM solver      |   10 |  7.93 |      |
                        |   20 |  3.42 |      |
        DEIS            |   10 |  6.65 |      |
                        |   20 |  3.10 |      |
        DFNO (LPIPS)    |    1 |  7.83 |      | 0.61
        TRACT           |    1 |  7.43 |      |
                        |    2 |  4.97 |      |
        BOOT            |    1 | 16.3  | 0.68 | 0.36
        Diff-Instruct   |    1 |  5.57 |      |
        PD*             |    1 | 15.39 | 0.59 | 0.62
                        |    2 |  8.95 | 0.63 | 0.65
                        |    4 |  6.77 | 0.66 | 0.65
        PD (LPIPS)      |    1 |  7.88 | 0.66 | 0.63
                        |    2 |  5.74 | 0.67 | 0.65
                        |    4 |  4.92 | 0.68 | 0.65
        CD (LPIPS)      |    1 |  6.20 | 0.68 | 0.63
                        |    2 |  4.70 | 0.69 | 0.64
                        |    3 |  4.32 | 0.70 | 0.64
        RIN             | 1000 |  1.23 |      |
        DDPM            |  250 | 11.0  | 0.67 | 0.58
        iDDPM           |  250 |  2.92 | 0.74 | 0.62
        ADM             |  250 |  2.07 | 0.74 | 0.63
        EDM             |  511 |  1.36 |      |
        EDM* (Heun)     |   79 |  2.44 | 0.71 | 0.67
        BigGAN-deep     |    1 |  4.06 | 0.79 | 0.48
        CT (LPIPS)      |    1 | 13.0  | 0.71 | 0.47
                        |    2 | 11.1  | 0.69 | 0.56
        iCT             |    1 |  4.02 | 0.70 | 0.63
                        |    2 |  3.20 | 0.73 | 0.63
        iCT-deep        |    1 |  3.25 | 0.72 | 0.63
                        |    2 |  2.77 | 0.74 | 0.62
        """,
        4,
    ),
)

# The table and method of each preset for a run of the paper or for CT.
PRESET_ROWS = {
    "cifar10": (CIFAR10, "iCT"),
    "cifar10_deep": (CIFAR10, "iCT-deep"),
    "imagenet64": (IMAGENET64, "iCT"),
    "imagenet64_deep": (IMAGENET64, "iCT-deep"),
    "cifar10_ct": (CIFAR10, "CT (LPIPS)"),
    "imagenet64_ct": (IMAGENET64, "CT (LPIPS)"),
}
SUCCESSORS = {
    "cifar10_ect": ("3.86", "2.15"),
    "cifar10_tcm": ("2.46", "2.05"),
    "cifar10_scm": ("2.85", "2.06"),
}
"""FID of other papers' presets, in one step and in two. ECT: its README, after 200 000 updates. TCM, sCM: their tables.
sCM's is that of consistency training, sCT."""


def printed_fid(preset: str) -> tuple[str, ...]:
    """Return the printed one-step and two-step FID for this preset, or an empty tuple for other presets."""
    if preset not in PRESET_ROWS:
        return SUCCESSORS.get(preset, ())
    table, method = PRESET_ROWS[preset]
    return tuple(fid for name, _, fid, *_ in table.rows if name == method)
