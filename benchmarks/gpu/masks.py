"""The time in which the dropout masks of an update are made."""

from benchmarks.gpu.device import device, median_seconds
from benchmarks.gpu.networks import Case
from benchmarks.gpu.notes import Notes
from ict_ref.networks.model import build_model
from ict_ref.plan.meta_step import META, image_shape
from ict_ref.training.sampled_noise import sample_masks

CASES = (Case("cifar10", "float16", 512), Case("imagenet64", "float16", 128))


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note the milliseconds of the masks of each preset, with all its noise shards."""
    for case in CASES:
        config = case.config(tiny=tiny)
        event, classes = image_shape(config.data)
        with META:
            sites = build_model(config, event=event, classes=classes).network.dropout_sites()
        shards = range(config.train.noise_shards)
        seconds = median_seconds(
            lambda config=config, sites=sites, shards=shards: sample_masks(0, shards, config, sites, device()),  # type: ignore[misc]
            budget_s=0.0 if tiny else 2.0,
        )
        values = {"batch": config.train.batch_size, "noise_shards": config.train.noise_shards}
        notes.add("masks", preset=case.preset, **values, milliseconds=1000 * seconds)
