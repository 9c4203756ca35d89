"""Some steps of one run, in one process or in one of several: writes the seconds of each to a file."""

import argparse
import json
import time
from pathlib import Path

import torch

from benchmarks.steps import images, small
from ict_ref.distributed.process_group import joined
from ict_ref.training.trainer import Trainer


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config = small(threads=options.threads)
    torch.set_num_threads(options.threads)
    with joined(config.machine) as world:
        trainer = Trainer(config, images(config), world)
        trainer.share()
        trainer.update()
        seconds = []
        for _ in range(options.steps):
            begins = time.perf_counter()
            trainer.update()
            seconds.append(time.perf_counter() - begins)
        if world.first:
            options.out.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
