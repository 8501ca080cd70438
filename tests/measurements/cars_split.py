"""Splits the 400 annotated photographs of Car-Parts-Segmentation: 300 to learn from, 100 to score on, always the same.

    python -m tests.measurements.cars_split FOLDER cars

FOLDER is their `trainingset/`, with `JPEGImages/` and `annotations.json`. Writes learn.txt (the images to learn from
without labels, for jobs.pretrain), learn.json and score.json (COCO, for `--images`; add `--image-root FOLDER`),
cars.yaml, the task of nine classes, and parts.yaml, that of all 18 parts. To choose by, inside the 300: 220 to learn
from and 80 to score on (inside-learn.json, inside-score.json), and every third image (learn-100.txt). No picture is
copied.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

NUM_LEARN, NUM_INSIDE = 300, 220

TASK = """\
class_names: [background, bumper, glass, door, light, hood, mirror, tailgate or trunk, wheel]
merge:
  bumper: [front_bumper, back_bumper]
  glass: [front_glass, back_glass]
  door: [front_left_door, front_right_door, back_left_door, back_right_door]
  light: [front_left_light, front_right_light, back_left_light, back_right_light]
  mirror: [left_mirror, right_mirror]
  tailgate or trunk: [tailgate, trunk]
"""

SIDES = ("back_{}_door", "front_{}_door", "back_{}_light", "front_{}_light", "{}_mirror")
"""Parts of the left and the right, which a mirror image swaps."""
OTHERS = ("back_bumper", "back_glass", "front_bumper", "front_glass", "hood", "tailgate", "trunk", "wheel")


def all_parts() -> str:
    """The task file of background and all 18 parts."""
    pairs = [[side.format("left"), side.format("right")] for side in SIDES]
    names = ["background", *OTHERS, *(name for pair in pairs for name in pair)]
    shown = "".join(f"  - [{', '.join(pair)}]\n" for pair in pairs)
    return f"class_names: [{', '.join(names)}]\nmirror_pairs:\n{shown}"


def split(names: list[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    """`count` names to learn from and the others, to score on; each sorted."""
    names = sorted(names)
    random.Random(seed).shuffle(names)
    return sorted(names[:count]), sorted(names[count:])


def subset(content: dict[str, list[dict[str, object]]], names: list[str]) -> dict[str, object]:
    """The COCO file `content` with only the images of these names."""
    images = [image for image in content["images"] if image["file_name"] in set(names)]
    ids = {image["id"] for image in images}
    annotations = [one for one in content["annotations"] if one["image_id"] in ids]
    return {"images": images, "annotations": annotations, "categories": content["categories"]}


def main(folder: Path, output: Path) -> None:
    content = json.loads((folder / "annotations.json").read_text())
    learn, score = split([path.name for path in (folder / "JPEGImages").glob("*.jpg")], NUM_LEARN, 0)
    inside_learn, inside_score = split(learn, NUM_INSIDE, 1)
    output.mkdir(exist_ok=True)
    for name, listed in (("learn.txt", learn), ("learn-100.txt", learn[::3])):
        (output / name).write_text("".join(f"{folder.resolve() / 'JPEGImages' / one}\n" for one in listed))
    sets = {"learn": learn, "score": score, "inside-learn": inside_learn, "inside-score": inside_score}
    for name, chosen in sets.items():
        (output / f"{name}.json").write_text(json.dumps(subset(content, chosen)))
    (output / "cars.yaml").write_text(TASK)
    (output / "parts.yaml").write_text(all_parts())
    print(f"{len(learn)} photographs to learn from, {len(score)} to score on, in {output}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
