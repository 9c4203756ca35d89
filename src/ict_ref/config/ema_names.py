"""Names of EMA weights in checkpoints: the start of the names of their tensors."""

from ict_ref.config.schema import Train


def decay_names(train: Train) -> dict[float, str]:
    """Return the name of the EMA weights of each decay; the first has the only name of earlier versions.

    >>> decay_names(Train(ema_decay=(0.9999, 0.999)))
    {0.9999: 'average', 0.999: 'average-0.999'}
    """
    first, *others = train.ema_decays
    return {first: "average"} | {decay: f"average-{decay}" for decay in others}


def profile_names(train: Train) -> dict[float, str]:
    """Return the name of the power-function average of each relative width, from which EMA weights are reconstructed.

    >>> profile_names(Train(ema_sigmas=(0.05, 0.1)))
    {0.05: 'power-0.05', 0.1: 'power-0.1'}
    """
    return {sigma: f"power-{sigma}" for sigma in train.ema_sigmas}
