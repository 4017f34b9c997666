"""The index of pictures: equal to a search without one, brought up to date by halves, and never half-written."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colours import COLOURS, ColourEncoder, fill, picture
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import CheckpointError, DataError, MissingExtra, StorageError
from diptych.core.seeding import hash_to_int
from diptych.serving import index as index_module
from diptych.serving.index import PictureIndex, fingerprint_of
from diptych.serving.job import JobOptions
from diptych.serving.pictures import PictureFolder


class Scattered(ColourEncoder):
    """A random vector for each picture, of its content alone; counts what it is asked."""

    def __init__(self, size: int = 8) -> None:
        super().__init__(size)
        self.asked = 0
        self.stop_at = 1 << 30

    def encode_image(self, visuals: Sequence[Any]) -> Tensor:
        if self.asked >= self.stop_at:
            raise KeyboardInterrupt
        self.asked += len(visuals)
        seeds = [hash_to_int("vector", one.pixels_HWC.tobytes().hex()) % 2**32 for one in visuals]
        rows = [torch.from_numpy(np.random.default_rng(seed).normal(size=24)).float() for seed in seeds]
        return F.normalize(torch.stack(rows), dim=-1)


def opened(place: Path, model: ColourEncoder) -> PictureIndex:
    return PictureIndex.open(place, fingerprint_of(model), model.name)


def brought_up_to_date(place: Path, model: ColourEncoder, folder: Path, batch: int = 64) -> PictureIndex:
    index = opened(place, model)
    index.update(model, PictureFolder(folder), JobOptions(batch))
    return index


def vectors(folder: Path) -> tuple[list[str], Tensor]:
    """Every key, and the vectors without an index."""
    source, model = PictureFolder(folder), Scattered()
    from diptych.core.visual import Image
    from diptych.data.pixels.images import pixels_of

    pixels = pixels_of([folder / key for key in source.keys()], model.preprocessing, 1).permute(0, 2, 3, 1).numpy()
    return list(source.keys()), model.encode_image([Image(pixels_HWC=np.ascontiguousarray(one)) for one in pixels])


def expected(folder: Path, query_D: Tensor, top: int) -> list[str]:
    keys, vectors_ND = vectors(folder)
    return [keys[place] for place in (vectors_ND @ query_D).argsort(descending=True)[:top].tolist()]


def test_an_index_finds_what_comparing_with_every_picture_finds(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 60)
    made = brought_up_to_date(tmp_path / "index", Scattered(), folder)
    queries_QD = F.normalize(torch.randn(10, 24, generator=torch.Generator().manual_seed(1)), dim=-1)
    keys, vectors_ND = vectors(folder)
    for index in (made, opened(tmp_path / "index", Scattered())):  # in memory, and read back
        for query_D in queries_QD:
            hits = index.search(query_D, 12)
            assert [hit.key for hit in hits] == expected(folder, query_D, 12)
            exact = dict(zip(keys, (vectors_ND @ query_D).tolist(), strict=True))
            assert [hit.score for hit in hits] == pytest.approx([exact[hit.key] for hit in hits], abs=1e-6)
        assert len(index.search(queries_QD[0], 1000)) == 180


def test_only_what_changed_is_looked_at_again(tmp_path: Path) -> None:
    folder, model = fill(tmp_path / "photos", 5), Scattered()
    brought_up_to_date(tmp_path / "index", model, folder)
    assert model.asked == 15
    brought_up_to_date(tmp_path / "index", model, folder)
    assert model.asked == 15
    (folder / "red" / "000.png").unlink()
    picture("green", 77).save(folder / "blue" / "001.png")
    picture("green", 78).save(folder / "new.png")
    again = opened(tmp_path / "index", model)
    done = again.update(model, PictureFolder(folder), JobOptions())
    assert (done.new, done.changed, done.gone, model.asked) == (1, 1, 1, 17)
    query_D = vectors(folder)[1][-1]
    for index in (again, opened(tmp_path / "index", model)):
        assert [hit.key for hit in index.search(query_D, 15)] == expected(folder, query_D, 15)
        assert index.search(query_D, 1)[0].score == pytest.approx(1, abs=1e-6)
    assert len(list((tmp_path / "index").iterdir())) == 2


def test_a_picture_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    folder, model = fill(tmp_path / "photos", 1), Scattered()
    (folder / "late.png").write_text("not yet")
    index = opened(tmp_path / "index", model)
    done = index.update(model, PictureFolder(folder), JobOptions())
    assert done.outcome is not None and [one.key for one in done.outcome.skipped] == ["late.png"]
    os.truncate(folder / "late.png", 0)
    picture("red", 5).save(folder / "late.png")
    assert "late.png" in brought_up_to_date(tmp_path / "index", model, folder).entries and model.asked == 4
    (folder / "bad.png").write_text("x")
    for name in COLOURS:
        (folder / name / "000.png").unlink()
    (folder / "late.png").unlink()
    with pytest.raises(DataError, match=r"not one|single picture"):
        brought_up_to_date(tmp_path / "index", model, folder)


def test_an_interrupt_keeps_what_was_taken_in(tmp_path: Path) -> None:
    folder, model = fill(tmp_path / "photos", 4), Scattered()
    model.stop_at = 6
    index = opened(tmp_path / "index", model)
    done = index.update(model, PictureFolder(folder), JobOptions(3))
    assert done.outcome is not None and done.outcome.stopped
    assert len(opened(tmp_path / "index", model).entries) == 6
    model.stop_at = 1 << 30
    assert len(brought_up_to_date(tmp_path / "index", model, folder).entries) == 12 and model.asked == 12


def test_a_long_build_is_saved_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "SAVE_EVERY", 4)
    folder, model = fill(tmp_path / "photos", 4), Scattered()

    def killed(images: Sequence[Any]) -> Tensor:
        if model.asked >= 8:
            raise SystemExit(137)
        return Scattered.encode_image(model, images)

    monkeypatch.setattr(model, "encode_image", killed)
    with pytest.raises(SystemExit):
        brought_up_to_date(tmp_path / "index", model, folder, batch=2)
    assert len(opened(tmp_path / "index", model).entries) == 8


def test_a_full_disk_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, model = fill(tmp_path / "photos", 1), Scattered()
    brought_up_to_date(tmp_path / "index", model, folder)
    picture("red", 9).save(folder / "more.png")

    def full(path: Path, text: str) -> None:
        raise StorageError(f"cannot write {path}: the disk is full")

    monkeypatch.setattr(index_module, "write_text", full)
    with pytest.raises(StorageError, match="the disk is full"):
        brought_up_to_date(tmp_path / "index", model, folder)
    monkeypatch.undo()
    assert len(opened(tmp_path / "index", model).entries) == 3
    assert len(brought_up_to_date(tmp_path / "index", model, folder).entries) == 4


@pytest.mark.parametrize("harm", ["cut", "gone", "json", "format"])
def test_a_damaged_index_is_named(harm: str, tmp_path: Path) -> None:
    brought_up_to_date(tmp_path / "index", Scattered(), fill(tmp_path / "photos", 1))
    (written,) = (tmp_path / "index").glob("*.usearch")
    described = tmp_path / "index" / "pictures.json"
    if harm == "cut":
        os.truncate(written, written.stat().st_size // 2)
    elif harm == "gone":
        written.unlink()
    else:
        described.write_text(described.read_text()[:50] if harm == "json" else '{"format": 0}')
    with pytest.raises(CheckpointError, match=r"truncated|no index of pictures"):
        opened(tmp_path / "index", Scattered())


def test_another_folder_is_not_taken_for_an_index(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no index of pictures, and not empty"):
        opened(fill(tmp_path / "photos", 1), Scattered())


def test_the_fingerprint_knows_weights_and_preprocessing() -> None:
    model = ColourEncoder()
    before = fingerprint_of(model)
    assert fingerprint_of(ColourEncoder()) == before != fingerprint_of(ColourEncoder(16))
    with torch.no_grad():
        model.module.weight[1, 2] = 1e-3
    assert fingerprint_of(model) != before
    assert fingerprint_of(Scattered()) != before


def test_without_usearch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(MissingExtra, match=r"diptych\[search\]"):
        brought_up_to_date(tmp_path / "index", Scattered(), fill(tmp_path / "photos", 1))
