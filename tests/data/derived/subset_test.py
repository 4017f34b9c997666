"""Parts of sources: by a file of keys, by a hash of each key, by number."""

import gzip
from pathlib import Path

import pytest

from diptych.core.errors import DataError
from diptych.core.source import Source
from diptych.data.derived.subset import Subset, hash_split, hold_out, read_keys, select_keys
from diptych.data.scenes.source import Scenes


def key(index: int) -> str:
    return f"scene-train-{index:08d}"


def same(one: Source, other: Source) -> bool:
    return list(one.keys()) == list(other.keys())


LINES = b"# a comment\r\nfirst\n\n  second key \nfirst\nthi#rd\x0bx"


@pytest.mark.parametrize("name", ["keys.txt", "keys.txt.gz"])
def test_a_file_of_keys(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES) if name.endswith(".gz") else LINES)
    assert read_keys(path) == ["first", "second key", "thi#rd\x0bx"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"# nothing\n\n", "a.txt holds no keys"),
        ("a.txt", b"", "a.txt holds no keys"),
        ("a.txt", b"\xff\xfe", "a.txt is no file of keys"),
        ("a.gz", b"plain", "a.gz is no file of keys"),
        ("a.gz", gzip.compress(b"key\n" * 100, mtime=0)[:-9], "a.gz is no file of keys"),
    ],
)
def test_what_is_no_file_of_keys(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_keys(tmp_path / name)
    assert sentence in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file of keys at"):
        read_keys(tmp_path / "none")
    with pytest.raises(DataError, match="is no file of keys"):
        read_keys(tmp_path)


def test_samples_come_in_the_order_of_the_keys() -> None:
    source = Scenes("train", 20)
    part = select_keys(source, [key(7), key(3), key(19)])
    assert list(part.keys()) == [key(7), key(3), key(19)] and len(part) == 3
    assert [part[index].key for index in range(3)] == list(part.keys())
    assert part[1].texts == source[3].texts


def test_unknown_keys_are_named_with_their_number() -> None:
    with pytest.raises(DataError, match=r"has no sample 'x' \(2 of 4 keys are unknown\)"):
        select_keys(Scenes("train", 5), [key(1), "x", key(2), "y"])


def test_the_fingerprint_is_of_source_and_choice() -> None:
    source = Scenes("train", 20)
    prints = {
        Subset(source, [1, 2]).fingerprint(),
        Subset(source, [2, 1]).fingerprint(),
        Subset(source, [12]).fingerprint(),
        Subset(source, [1, 2, 3]).fingerprint(),
        Subset(Scenes("val", 20), [1, 2]).fingerprint(),
        source.fingerprint(),
    }
    assert len(prints) == 6 and Subset(source, [1, 2]).fingerprint() in prints


def test_its_name_says_how_much_it_is() -> None:
    assert Subset(Scenes("train", 2000), range(1500)).name == "scenes (train) (1,500 of 2,000)"
    assert Subset(Scenes("train", 5), [1], name="mine").name == "mine"


def test_a_hash_split_parts_the_whole_by_keys_alone() -> None:
    rest, held = hash_split(Scenes("train", 4000), 0.1)
    assert sorted([*rest.keys(), *held.keys()]) == list(Scenes("train", 4000).keys())
    assert abs(len(held) / 4000 - 0.1) < 0.02
    more_rest, more_held = hash_split(Scenes("train", 5000), 0.1)
    assert set(held.keys()) <= set(more_held.keys()) and set(rest.keys()) <= set(more_rest.keys())
    other = set(hash_split(Scenes("train", 4000), 0.1, salt="other")[1].keys())
    assert abs(len(other & set(held.keys())) / 4000 - 0.01) < 0.01  # another salt is another draw
    assert len(hash_split(Scenes("train", 100), 0.0)[1]) == 0 and len(hash_split(Scenes("train", 100), 1.0)[0]) == 0


def test_holding_out_takes_exactly_so_many_and_keeps_the_order() -> None:
    rest, held = hold_out(Scenes("train", 300), 50)
    assert (len(rest), len(held)) == (250, 50)
    assert sorted([*rest.keys(), *held.keys()]) == list(Scenes("train", 300).keys())
    assert list(rest.keys()) == sorted(rest.keys()) and list(held.keys()) == sorted(held.keys())
    fewer = set(hold_out(Scenes("train", 300), 49)[1].keys())
    assert fewer < set(held.keys())  # one more held out moves no other
    assert same(held, hold_out(Scenes("train", 300), 50)[1])
    assert abs(sum(int(k[-3:]) for k in held.keys()) / 50 - 150) < 45  # spread over the whole


@pytest.mark.parametrize("count", [300, 301])
def test_all_of_a_source_cannot_be_held_out(count: int) -> None:
    with pytest.raises(DataError, match=f"cannot hold {count} samples out of scenes .train., which has 300"):
        hold_out(Scenes("train", 300), count)
