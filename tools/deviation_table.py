"""The cost of known deviations, in docs/deviations.md and in the reports of `ict_ref.verify`.

`python -m tools.deviation_table FOLDER` collects the runs of `python -m ict_ref.experiments --only deviations --runs
FOLDER` in docs/deviations.json, and draws docs/deviations.png from their pictures. It then writes the table and the
file of the reports; without FOLDER, only these two. tests/experiments/test_deviation_page.py fails where they are
stale.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ict_ref.experiments.cost_table import RIGHT_NAME, StoredRun, Summary, clause, row, summaries
from ict_ref.experiments.deviation_costs import DeviationCosts
from ict_ref.experiments.known_deviations import DEVIATIONS, RIGHT
from ict_ref.utils.atomic import atomically, write_atomically

ROOT = Path(__file__).parents[1]
PAGE, DATA = ROOT / "docs" / "deviations.md", ROOT / "docs" / "deviations.json"
PICTURE = ROOT / "docs" / "deviations.png"
REPORT = ROOT / "src" / "ict_ref" / "verify" / "report" / "costs.json"
BEGIN, END = "<!-- costs: written by `python -m tools.deviation_table` -->", "<!-- end of costs -->"
HEAD = (
    "| deviation | | seeds | Frechet distance | accuracy | recall | loss | cost | what a user sees |",
    "|---|---|---:|---:|---:|---:|---:|---:|---|",
)
GAP, TITLE = 20, 26
"""Pixels between two pictures, and of a title."""
SHORT_SCALE = "on 8x8 digits"


def collected(folder: Path) -> dict[str, Any]:
    """Return the runs in a folder and their scale as JSON.

    Raises:
        ValueError: a run is damaged, or is not of the default number of updates.
        OSError: a file cannot be read.
    """
    experiment = DeviationCosts(folder=folder)
    runs = experiment.all_stored()
    return {"scale": experiment.scale(), "baselines": experiment.baselines(), "runs": [asdict(run) for run in runs]}


def of_data(data: dict[str, Any]) -> tuple[Summary, dict[str, Summary]]:
    """Return the summary of the right runs and those of the deviations."""
    found = summaries(StoredRun(**run) for run in data["runs"])
    return found.pop(RIGHT_NAME), found


def tables(data: dict[str, Any]) -> str:
    """Return the scale and the table in Markdown, with deviations that are not measured."""
    right, found = of_data(data)
    what = {each.name: each.what for each in (RIGHT, *DEVIATIONS)}
    lines = [
        "| " + " | ".join((f"`{name}`", what[name], *rest)) + " |"
        for name, *rest in (row(each, right) for each in (right, *found.values()))
    ]
    baselines = [
        f"| {name} | | | {scores['frechet_distance']:.2f} | {scores['accuracy']:.2f} | {scores['recall']:.2f} | | | |"
        for name, scores in data["baselines"].items()
    ]
    missing = [
        f"| `{each.name}` | {each.what} | 0 | | | | | | not measured |" for each in DEVIATIONS if each.name not in found
    ]
    scale = data["scale"].replace(". ", ".\n")
    return f"**Scale.** {scale}\n\n" + "\n".join([*HEAD, *lines, *missing, *baselines])


def costs(data: dict[str, Any]) -> dict[str, Any]:
    """Return the clauses of the reports, by the ids of `ict_ref.verify`."""
    right, found = of_data(data)
    clauses = {
        name: clause(found[each.name], right, SHORT_SCALE)
        for each in DEVIATIONS
        if each.name in found
        for name in each.of_verify
    }
    return {"scale": data["scale"], "costs": clauses}


def worst(data: dict[str, Any], count: int) -> list[str]:
    """Return the names of the deviations with the largest Frechet distances."""
    _, found = of_data(data)
    scored = [each for each in found.values() if each.has_scores]
    ranked = sorted(scored, key=lambda each: each.spread("frechet_distance").mean, reverse=True)
    return [each.name for each in ranked[:count]]


def draw(folder: Path, names: Sequence[str], path: Path) -> None:
    """Write the pictures of the first seed of these deviations side by side as one PNG.

    Raises:
        OSError: a picture is missing or cannot be read.
    """
    pictures = [Image.open(folder / f"{name}-0.png").convert("RGB") for name in names]
    width, height = pictures[0].width + GAP, pictures[0].height + TITLE
    sheet = Image.new("RGB", (len(pictures) * width - GAP, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.font = ImageFont.load_default(size=TITLE - 8)
    for left, name, picture in zip(range(0, len(pictures) * width, width), names, pictures, strict=True):
        pen.text((left, TITLE / 2), name, fill="black", anchor="lm")
        sheet.paste(picture, (left, TITLE))
    with atomically(path) as aside, aside.open("wb") as file:
        sheet.save(file, "PNG")


def written(page: str, tables: str) -> str:
    """Return the page with these tables."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}"


def as_file(content: dict[str, Any]) -> bytes:
    """Return the bytes of a JSON file."""
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def main(arguments: Sequence[str]) -> None:
    """Write the files."""
    for folder in arguments:
        found = collected(Path(folder))
        write_atomically(DATA, as_file(found))
        draw(Path(folder), [RIGHT_NAME, *worst(found, 3)], PICTURE)
    data = json.loads(DATA.read_text("utf-8"))
    write_atomically(PAGE, written(PAGE.read_text("utf-8"), tables(data)).encode())
    write_atomically(REPORT, as_file(costs(data)))


if __name__ == "__main__":
    main(sys.argv[1:])
