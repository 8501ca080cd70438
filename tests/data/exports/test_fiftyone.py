"""FiftyOne cannot be installed here: exports are checked against its documentation of ImageSegmentationDirectory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_seg.data.exports.fiftyone import write_fiftyone
from ddpm_seg.tasks import UNLABELLED
from tests.data.exports.drawn import TASK, pictures, pixels_of


def test_images_and_masks_share_names_and_0_is_no_class(tmp_path: Path) -> None:
    write_fiftyone(pictures(), TASK, str(tmp_path))
    data, labels = sorted((tmp_path / "data").iterdir()), sorted((tmp_path / "labels").iterdir())
    assert [path.stem for path in data] == [path.stem for path in labels] == [one.name for one in pictures()]
    targets = {int(value): name for value, name in json.loads((tmp_path / "mask_targets.json").read_text()).items()}
    assert 0 not in targets
    samples = json.loads((tmp_path / "samples.json").read_text())
    for one, image, label in zip(pictures(), data, labels, strict=True):
        mask = np.asarray(Image.open(label))
        assert mask.ndim == 2
        names = [[targets.get(value) for value in row] for row in mask.tolist()]
        known = [
            [None if value == UNLABELLED else TASK.class_names[value] for value in row] for row in one.mask.tolist()
        ]
        assert names == known
        assert np.array_equal(np.asarray(Image.open(image)), pixels_of(one))
        assert samples[one.name] == {"uri": one.uri, "uncertainty": one.uncertainty}
