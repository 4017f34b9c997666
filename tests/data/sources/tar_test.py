"""Tars: offsets against `tarfile`, captions from every place, damage counted by reason, stale indices noticed."""

import io
import json
import os
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import PIL.Image
import pytest

from diptych.core.errors import DataError
from diptych.core.processor import BadSample
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.loading.loader import Loader
from diptych.data.open import open_source
from diptych.data.sources._tar_index import SUFFIX, index_of, make_index, write_index
from diptych.data.sources.tar import TarSource
from diptych.data.words.tokenizer import Tokenizer

Members = list[tuple[str, bytes]]


def picture(seed: int, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(file, kind)
    return file.getvalue()


def tar_of(members: Members) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def written(path: Path, members: Members) -> str:
    path.write_bytes(tar_of(members))
    return str(path)


def good(count: int, start: int = 0) -> Members:
    return [
        pair
        for i in range(start, start + count)
        for pair in ((f"{i:04d}.jpg", picture(i)), (f"{i:04d}.txt", f"a caption {i}".encode()))
    ]


def test_bytes_lie_where_tarfile_says(tmp_path: Path) -> None:
    long = "folder/" + "x" * 150  # a name that needs a header of its own
    members = [*good(5), (f"{long}.PNG", picture(9, "PNG")), (f"{long}.cls", b"7\n"), ("./a.b.c.jpg", b"?")]
    path = written(tmp_path / "a.tar", members)
    source = TarSource([path])
    assert list(source.keys()) == [*(f"{i:04d}" for i in range(5)), long]
    with tarfile.open(path) as tar:
        for index, key in enumerate(source.keys()):
            (name,) = [n for n in tar.getnames() if n.lower() in (f"{key}.jpg", f"{key}.png")]
            file = tar.extractfile(name)
            assert file is not None and source[index].image.encoded == file.read()
    assert source[3].texts == ("a caption 3",) and source[5].meta["class"] == "7" and source[5].texts == ()


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        ({"captions": ["one", "two"]}, ("one", "two")),
        ({"caption": "one", "text": "two"}, ("one",)),
        ({"sentences": [{"raw": "one"}, {"raw": "two"}]}, ("one", "two")),
        ({"captions": [], "text": "three"}, ("three",)),
        ({"url": "x", "width": 3}, ()),
    ],
)
def test_captions_of_json(tmp_path: Path, record: dict[str, object], texts: tuple[str, ...]) -> None:
    path = written(tmp_path / "a.tar", [("k.jpg", b"?"), ("k.json", json.dumps(record | {"id": 4}).encode())])
    sample = TarSource([path])[0]
    assert sample.texts == texts and sample.meta["id"] == 4


def test_a_named_field_is_taken_alone_and_txt_before_json(tmp_path: Path) -> None:
    record = json.dumps({"caption": "short", "alt": "long"}).encode()
    path = written(tmp_path / "a.tar", [("k.jpg", b"?"), ("k.json", record), ("m.jpg", b"?"), ("m.json", record)])
    assert open_source(f"{path}?captions=alt")[0].texts == ("long",)
    both = written(tmp_path / "b.tar", [("k.jpg", b"?"), ("k.json", record), ("k.txt", "été".encode())])
    assert TarSource([both])[0].texts == ("été",)


@pytest.mark.parametrize("place", ["in a picture", "in a header", "after a member"])
def test_a_tar_that_breaks_off_gives_what_is_whole(tmp_path: Path, place: str) -> None:
    path = written(tmp_path / "a.tar", good(4))
    with tarfile.open(path) as tar:
        last = tar.getmember("0003.jpg")
    cut = {"in a picture": last.offset_data + 100, "in a header": last.offset + 100, "after a member": last.offset}
    os.truncate(path, cut[place])
    source = TarSource([path])
    assert list(source.keys()) == ["0000", "0001", "0002"] and source.problems == {"truncated tar": [path]}
    assert [source[i].texts for i in range(3)] == [(f"a caption {i}",) for i in range(3)]
    assert source[2].image.encoded == picture(2)


@pytest.mark.parametrize("content", [b"", tar_of([]), tar_of([("readme.md", b"x")]), b"no tar at all" * 100])
def test_a_tar_without_pictures_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match="holds no pictures"):
        open_source(str(tmp_path / "a.tar"))


def test_a_tar_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tar at"):
        TarSource([str(tmp_path / "none.tar")])


def test_keys_twice_and_texts_alone_are_counted(tmp_path: Path) -> None:
    one = written(tmp_path / "a.tar", [*good(2), ("0001.jpg", picture(50)), ("lonely.txt", b"x")])
    two = written(tmp_path / "b.tar", good(2, start=1))
    source = TarSource([one, two])
    assert list(source.keys()) == ["0000", "0001", "0002"]
    assert source.problems == {"duplicate key": ["0001", "0001"], "no image": ["lonely"]}
    assert source[1].image.encoded == picture(1) and source[2].texts == ("a caption 2",)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("k.txt", b"\xff\xfe\x80"), "undecodable text"),
        (("k.json", b'{"caption": '), "bad json"),
        (("k.json", b"[1, 2]"), "bad json"),
    ],
)
def test_text_that_cannot_be_read(tmp_path: Path, member: tuple[str, bytes], reason: str) -> None:
    source = TarSource([written(tmp_path / "a.tar", [("k.jpg", b"?"), member])])
    with pytest.raises(BadSample) as caught:
        source[0]
    assert caught.value.reason == reason and caught.value.key == "k"


def test_the_index_says_what_the_walk_says_until_the_tar_changes(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", [*good(3), ("lonely.txt", b"x")])
    made = make_index(path)
    write_index(made)
    read = index_of(path)
    assert (read.keys, read.endings, read.problems, read.stamp) == (made.keys, made.endings, made.problems, made.stamp)
    assert np.array_equal(read.spans, made.spans)
    before = TarSource([path]).fingerprint()
    written(tmp_path / "a.tar", good(4, start=7))
    changed = TarSource([path])
    assert list(changed.keys()) == ["0007", "0008", "0009", "0010"] and changed.fingerprint() != before
    assert changed[3].image.encoded == picture(10)


@pytest.mark.parametrize("damage", [b"", b"junk", b"PK\x03\x04 half a zip"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    path = written(tmp_path / "a.tar", good(2))
    write_index(make_index(path))
    whole = Path(path + SUFFIX).read_bytes()
    for content in (damage, whole[: len(whole) // 2]):
        Path(path + SUFFIX).write_bytes(content)
        assert list(TarSource([path]).keys()) == ["0000", "0001"]


def test_the_fingerprint_is_of_the_content_not_of_the_index(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tar", good(3))
    first = TarSource([path]).fingerprint()
    write_index(make_index(path))
    assert TarSource([path]).fingerprint() == first
    written(tmp_path / "a.tar", good(3, start=1))
    assert TarSource([path]).fingerprint() != first


def test_tars_that_are_not_local(tmp_path: Path) -> None:
    with fsspec.open("memory://shards/remote-000.tar", "wb") as file:
        file.write(tar_of(good(3)))
    source = open_source("memory://shards/remote-{000..000}.tar")
    assert list(source.keys()) == ["0000", "0001", "0002"]
    assert [bytes(source[i].image.encoded or b"") for i in range(3)] == [picture(i) for i in range(3)]
    assert source[2].texts == ("a caption 2",)
    assert list(open_source("memory://shards/*.tar").keys()) == list(source.keys())
    with pytest.raises(DataError, match="no tar at"):
        open_source("memory://shards/none.tar")


def bad_set(count: int) -> Members:
    """`count` of each way to be bad."""
    bad: Members = []
    for i in range(count):
        half = picture(i)[:600]
        bad += [(f"cut{i}.jpg", half), (f"cut{i}.txt", b"a"), (f"html{i}.jpg", b"<html>"), (f"html{i}.txt", b"a")]
        bad += [(f"mute{i}.jpg", picture(i)), (f"blank{i}.jpg", picture(i)), (f"blank{i}.txt", b"  \n")]
        bad += [(f"bytes{i}.jpg", picture(i)), (f"bytes{i}.txt", b"\xff\xff"), (f"lost{i}.txt", b"no picture")]
    return bad


def test_a_bad_set_is_counted_by_reason_and_stops_above_its_share(tmp_path: Path) -> None:
    processor = ImageTextProcessor(
        ImageTextConfig(ImagePreprocessing(32), TextPreprocessing(16)), Tokenizer.fit(["a caption 0123456789"], 270)
    )
    few = open_source(written(tmp_path / "few.tar", [*bad_set(1), *good(195)]))
    with Loader(few, processor, 20, 0, bad_log=tmp_path / "bad.jsonl") as loader:
        for _ in range(10):
            next(loader)
        logged = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
        reasons = {"cut0": "truncated image", "html0": "not an image", "mute0": "no caption", "blank0": "empty caption"}
        assert {one["key"]: one["reason"] for one in logged} == reasons | {"bytes0": "undecodable text"}
        assert loader.stats.samples == 200 and loader.stats.bad_total == len(logged)
    many = open_source(written(tmp_path / "many.tar", [*bad_set(4), *good(180)]))
    with (
        Loader(many, processor, 20, 0) as loader,
        pytest.raises(DataError, match=r"many\.tar: \d+ of \d+ samples \(\d+\.\d%\) could not be used"),
    ):
        for _ in range(10):
            next(loader)


def test_real_photographs(shared_data: Path) -> None:
    shards = shared_data / "flickr8k" / "shards"
    path = str(shards / "flickr8k-val-000.tar")
    source = TarSource([path])
    assert len(source) == 500 and source.problems == {}
    with tarfile.open(path) as tar:
        for index in (0, 123, 499):
            key = source.keys()[index]
            image, record = tar.extractfile(f"{key}.jpg"), tar.extractfile(f"{key}.json")
            assert image is not None and record is not None
            assert source[index].image.encoded == image.read()
            assert list(source[index].texts) == json.load(record)["captions"] and len(source[index].texts) == 5
    assert len(open_source(str(shards), "val")) == 1000
