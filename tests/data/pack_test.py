"""Packs: what comes out of the tars is what went in, and nothing that breaks on the way goes unsaid."""

from __future__ import annotations

import errno
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import simplejpeg

from diptych.core.errors import ConfigError, DataError, StorageError
from diptych.core.processor import BadSample
from diptych.core.sample import Sample
from diptych.core.visual import Image
from diptych.data._pack_members import PictureFormat, shrunk
from diptych.data.open import open_source
from diptych.data.pack import Pack
from diptych.data.pixels.decode import decode
from diptych.data.pixels.resize import resized, whole

KEYS = ("plain", "folder/one", "with.dot/a.b.jpg", "/absolute", "../up", "é ü", "a" * 150, "./here", "x%2Ey", "last")


class Memory:
    """Samples in memory."""

    name = "memory"

    def __init__(self, samples: Sequence[Sample | BadSample]) -> None:
        self._samples = samples
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        sample = self._samples[index]
        if isinstance(sample, BadSample):
            raise sample
        return sample

    def keys(self) -> Sequence[str]:
        return [sample.key for sample in self._samples]

    def fingerprint(self) -> str:
        return " ".join(self.keys())


def picture(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(PIL.Image.fromarray(small).resize((width, height), PIL.Image.Resampling.BICUBIC))


def samples(sizes: Mapping[int, tuple[int, int]] | None = None) -> list[Sample]:
    found = []
    for i, key in enumerate(KEYS):
        pixels = picture(i, *(sizes or {}).get(i, (30, 40)))
        texts = tuple(f"caption {n} of {i}, \u00e9\n" for n in range(1 + i % 3))
        meta: dict[str, Any] = {"class": f"c{i}", "boxes": [[0, 1.5]]} if i % 2 else {}
        found.append(Sample(key, (Image(pixels_HWC=pixels),), texts, meta=meta))
    return found


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_keys_captions_and_facts_come_back(tmp_path: Path, kind: Any) -> None:
    given = samples()
    Pack(Memory(given), tmp_path, PictureFormat(kind), per_shard=4).run()
    back = open_source(str(tmp_path))
    assert list(back.keys()) == list(KEYS)
    for i, sample in enumerate(given):
        assert (back[i].key, back[i].texts, dict(back[i].meta)) == (sample.key, sample.texts, sample.meta)
        pixels, true = decode(back[i].image), decode(sample.image)
        if kind == "raw":
            np.testing.assert_array_equal(pixels, true)
        else:
            assert np.abs(pixels.astype(int) - true.astype(int)).mean() < 1.5


def test_raw_members_are_slices_of_the_mapped_tar(tmp_path: Path) -> None:
    Pack(Memory(samples()), tmp_path, PictureFormat("raw")).run()
    pixels = open_source(str(tmp_path))[3].image.pixels_HWC
    assert pixels is not None and not pixels.flags.owndata and not pixels.flags.writeable


@pytest.mark.parametrize(
    ("shape", "size", "side", "expected"),
    [
        ((30, 40), 20, "shorter", (20, 27)),
        ((40, 30), 20, "longest", (20, 15)),
        ((30, 40), 64, "shorter", (30, 40)),  # never enlarged
        ((30, 40), 35, "shorter", (30, 40)),
        ((30, 40), 35, "longest", (26, 35)),
        ((2, 400), 20, "longest", (1, 20)),
        ((30, 40), 0, "shorter", (30, 40)),
    ],
)
def test_sizes(shape: tuple[int, int], size: int, side: Any, expected: tuple[int, int]) -> None:
    pixels = picture(0, *shape)
    found = shrunk(pixels, PictureFormat("raw", size, side))
    assert found.shape == (*expected, 3)
    np.testing.assert_array_equal(found, resized(pixels, whole(pixels), *expected))


def test_a_raw_picture_is_pillows_resize_of_it(tmp_path: Path) -> None:
    true = picture(5, 300, 400)
    Pack(Memory([Sample("a", (Image(pixels_HWC=true),))]), tmp_path, PictureFormat("raw", 75)).run()
    pillow = np.asarray(PIL.Image.fromarray(true).resize((100, 75), PIL.Image.Resampling.BICUBIC))
    found = decode(open_source(str(tmp_path))[0].image)
    assert np.abs(found.astype(int) - pillow.astype(int)).max() <= 1


def test_a_jpeg_that_is_small_enough_is_not_encoded_again(tmp_path: Path) -> None:
    encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(picture(1)), 60)
    Pack(Memory([Sample("a", (Image(encoded=encoded),))]), tmp_path, PictureFormat(size=64)).run()
    found = open_source(str(tmp_path))[0].image.encoded
    assert found is not None and bytes(found) == encoded


def test_bad_samples_are_counted_and_named(tmp_path: Path) -> None:
    encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(picture(1)), 90)
    given: list[Sample | BadSample] = [
        *samples(),
        Sample("torn", (Image(encoded=encoded[: len(encoded) // 2]),), ("x",)),
        BadSample("gone", "missing image"),
        Sample("surrogate", (Image(encoded=encoded),), ("\ud800",)),
        Sample("empty"),
    ]
    report = Pack(Memory(given), tmp_path, per_shard=5).run()
    assert report.samples == len(KEYS)
    assert report.bad == {"truncated image": 1, "missing image": 1, "undecodable text": 1, "no image": 1}
    lines = [json.loads(line) for line in (tmp_path / "shard.bad.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["torn", "gone", "surrogate", "empty"]
    assert list(open_source(str(tmp_path)).keys()) == list(KEYS)


def test_nothing_but_bad_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not one sample of memory could be packed: missing image 2; see .*bad\.jsonl"):
        Pack(Memory([BadSample("a", "missing image"), BadSample("b", "missing image")]), tmp_path).run()
    with pytest.raises(DataError, match="memory has no samples"):
        Pack(Memory([]), tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".tar", ".jsonl")}


def test_an_interrupted_pack_continues_to_the_same_bytes(tmp_path: Path) -> None:
    given: list[Sample | BadSample] = list(samples())
    given[4] = BadSample(KEYS[4], "missing image")
    given[7] = BadSample(KEYS[7], "missing image")
    Pack(Memory(given), tmp_path / "whole", per_shard=3).run()

    class Killed(Exception):
        pass

    def kill(samples: int, seen: list[int] = []) -> None:  # noqa: B006  (counts calls)
        seen.append(samples)
        if len(seen) == 8:  # in the third shard, after its bad sample
            raise Killed

    with pytest.raises(Killed):
        Pack(Memory(given), tmp_path / "cut", per_shard=3).run(kill)
    (tmp_path / "cut" / ".shard-00002.tar.abc").write_bytes(b"left by a kill -9")
    (tmp_path / "cut" / "shard-00001.tar.index.npz").unlink()
    assert sorted(p.name for p in (tmp_path / "cut").glob("*.tar")) == ["shard-00000.tar", "shard-00001.tar"]
    source = Memory(given)
    report = Pack(source, tmp_path / "cut", per_shard=3).run()
    assert (report.kept, report.shards, report.bad) == (2, 4, {"missing image": 2})
    assert min(source.read) == 6  # whole shards are not read again
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert not list((tmp_path / "cut").glob(".*"))
    assert len(list((tmp_path / "cut").glob("*.index.npz"))) == 4


def test_another_pack_in_the_folder_is_refused(tmp_path: Path) -> None:
    Pack(Memory(samples()), tmp_path / "a").run()
    with pytest.raises(ConfigError, match=r"holds a pack of another quality \(90 there, 80 now\)"):
        Pack(Memory(samples()), tmp_path / "a", PictureFormat(quality=80)).run()
    with pytest.raises(ConfigError, match="holds a pack of other data"):
        Pack(Memory(samples()[1:]), tmp_path / "a").run()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("keep me")
    with pytest.raises(ConfigError, match="is not empty and holds no pack"):
        Pack(Memory(samples()), tmp_path / "b").run()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["thesis.txt"]


def test_a_full_disk_keeps_finished_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    addfile = tarfile.TarFile.addfile

    def full(self: tarfile.TarFile, *arguments: Any) -> None:
        written.append(1)
        if len(written) > 15:
            raise OSError(errno.ENOSPC, "No space left on device")
        addfile(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(tarfile.TarFile, "addfile", full)
        with pytest.raises(StorageError, match=r"cannot write .*shard-0000\d\.tar: the disk is full"):
            Pack(Memory(samples()), tmp_path, per_shard=3).run()
    done = sorted(path.name for path in tmp_path.glob("*.tar"))
    assert done and len(done) < 4 and not list(tmp_path.glob(".*"))
    assert Pack(Memory(samples()), tmp_path, per_shard=3).run().kept == len(done)
    assert list(open_source(str(tmp_path)).keys()) == list(KEYS)


def test_a_failing_source_is_not_told_as_a_failure_to_write(tmp_path: Path) -> None:
    class Broken(Memory):
        def __getitem__(self, index: int) -> Sample:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(DataError, match="cannot read memory"):
        Pack(Broken(samples()), tmp_path).run()


def test_wrong_settings() -> None:
    for settings in ({"size": -1}, {"quality": 0}, {"quality": 101}):
        with pytest.raises(ConfigError):
            PictureFormat(**settings)
    with pytest.raises(ConfigError, match="per_shard 0"):
        Pack(Memory(samples()), Path(), per_shard=0)
