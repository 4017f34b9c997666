"""Regions of a detector: those of `transformers`' own post-processing, the best first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_detector import QUERIES, tiny_yolos

from diptych.core.errors import CheckpointError, DataError
from diptych.data.pixels.region_detector import FolderDetector
from diptych.data.pixels.tower_inputs import PREPROCESSOR

HF: Any = transformers


def photograph(height: int = 32, width: int = 48) -> np.ndarray[Any, np.dtype[np.uint8]]:
    coarse = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (fine[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def test_the_regions_are_those_of_transformers_with_the_surest_first(tmp_path: Path) -> None:
    model, pixels = tiny_yolos(tmp_path), photograph()
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    prepared = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        output = model(pixel_values=prepared)
    (theirs,) = HF.YolosImageProcessor().post_process_object_detection(output, threshold=0.0)
    order = theirs["scores"].argsort(descending=True)
    expected = theirs["boxes"][order].clamp(0, 1)
    expected = expected[((expected[:, 2:] - expected[:, :2]) > 1e-3).all(-1)]
    found = FolderDetector(tmp_path).boxes(pixels, 4)
    np.testing.assert_allclose(found, expected[:4].numpy(), atol=1e-5)
    assert len(FolderDetector(tmp_path).boxes(pixels, 100)) == len(expected) <= QUERIES


@pytest.mark.parametrize(
    ("shape", "sides"), [((20, 40), (16, 32)), ((40, 20), (32, 16)), ((10, 40), (10, 40)), ((64, 64), (16, 16))]
)
def test_pictures_keep_their_shape_up_to_the_longest_edge(
    tmp_path: Path, shape: tuple[int, int], sides: tuple[int, int]
) -> None:
    tiny_yolos(tmp_path, size={"shortest_edge": 16, "longest_edge": 40})
    detector = FolderDetector(tmp_path)
    assert detector._prepared(photograph(*shape)).shape[2:] == sides
    found = detector.boxes(photograph(*shape), 5)
    assert bool((found[:, :2] < found[:, 2:]).all()) and float(found.min()) >= 0 and float(found.max()) <= 1


def test_detectors_without_a_no_object_class_are_sure_of_each_class_on_its_own(tmp_path: Path) -> None:
    tiny_yolos(tmp_path)
    detector = FolderDetector(tmp_path)
    with_none = torch.tensor([[2.0, 0.0, 0.0, 5.0], [1.0, 0.0, 0.0, 0.0]])
    assert detector._scores(with_none).tolist() == with_none.softmax(-1)[:, 0].tolist()
    of_each = with_none[:, :3]
    assert detector._scores(of_each).tolist() == of_each.sigmoid()[:, 0].tolist()


def test_it_is_written_whole(tmp_path: Path) -> None:
    tiny_yolos(tmp_path / "first")
    (tmp_path / "second").mkdir()
    detector = FolderDetector(tmp_path / "first")
    detector.write(tmp_path / "second")
    np.testing.assert_array_equal(
        FolderDetector(tmp_path / "second").boxes(photograph(), 5), detector.boxes(photograph(), 5)
    )


def test_folders_that_are_no_detectors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no detector at .*: it has no config\.json"):
        FolderDetector(tmp_path / "nowhere")
    HF.BertModel(
        HF.BertConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, vocab_size=9)
    ).save_pretrained(tmp_path / "text")
    with pytest.raises(CheckpointError, match="cannot be read as a detector"):
        FolderDetector(tmp_path / "text")
    tiny_yolos(tmp_path / "a", size=17)
    with pytest.raises(DataError, match="a detector's size is a shortest_edge, or a height and a width; got 17"):
        FolderDetector(tmp_path / "a")
    (tmp_path / "a" / PREPROCESSOR).unlink()
    with pytest.raises(DataError, match=f"no {PREPROCESSOR}"):
        FolderDetector(tmp_path / "a")
