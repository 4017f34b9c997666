"""`open_source`: whatever a user names as data, by looking at what is there.

    scenes, scenes?objects=3&size=64       the built-in generator
    photos.tar, shards/, "shards/*.tar"    webdataset / img2dataset tars, also s3://...
    captions.csv, folder/                  a table beside its pictures
    talk.json, talk.jsonl                  conversations about pictures beside them (LLaVA, ShareGPT, Hugging Face)
    folder/                                a folder of class folders, or of IDX files
    part.parquet, folder/                  parquet
    hf:org/name, hf:/path                  a Hugging Face dataset (extra: datasets)

Options follow a question mark: `shards?captions=alt_text` names the caption's field, and with any kind of data
`shards?keys=clean.txt` takes only the samples whose keys the file lists (data/derived/subset.py). One list may name
samples of several splits; each takes its own. `photos?held_out=test.txt` is for data whose names tell no splits apart:
the samples whose keys the file lists are the split "test", all others "train" (data/derived/held_out.py makes a list).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from diptych.core.errors import DataError, unknown_name
from diptych.core.source import Source
from diptych.data.derived.subset import Subset, read_keys, select_keys, unknown_keys
from diptych.data.patterns import expand, is_pattern
from diptych.data.sources._captions import CAPTION_FIELDS
from diptych.data.split_names import ALL, SPLITS, names_of, of_split, split_name, splits_of

_KINDS = "a tar, a folder, a table, a parquet file, 'hf:org/name' or 'scenes'"


def open_source(reference: str, split: str = ALL) -> Source:
    """Opens data.

    Args:
        reference: see above.
        split: where names tell splits apart (`flickr8k-train-000.tar`, `test-00000.parquet`, `t10k-images-idx3...`, or
            folders named train, val and test), the one to open; "all" opens everything.

    Raises:
        DataError: nothing there, nothing of that split, or no samples.
        ConfigError: an option that no kind of source has.
    """
    where, _, query = reference.partition("?")
    options = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))  # a plus in a path is no space
    keys = options.pop("keys", None)
    held_out = options.pop("held_out", None)
    split = split_name(split)
    source = _open(where, options, split) if held_out is None else _parted(where, options, split, Path(held_out))
    return source if keys is None else _listed(source, Path(keys), where, options, split)


def _parted(where: str, options: Mapping[str, str], split: str, file: Path) -> Source:
    """One side of data that a file of keys parts.

    Raises:
        DataError: a split that is neither side, or a key that the data do not have.
    """
    whole = _open(where, options, ALL)
    if split == ALL:
        return whole
    held = read_keys(file)
    if split == "test":
        return select_keys(whole, held)
    if split != "train":
        raise DataError(f"{where} is parted by {file} into train and test: it has no split '{split}'")
    out = set(held)
    return Subset(whole, [index for index, key in enumerate(whole.keys()) if key not in out])


def _listed(source: Source, file: Path, where: str, options: Mapping[str, str], split: str) -> Source:
    """The samples of a split that a file names; keys of other splits are left to those.

    Raises:
        DataError: a key that no split has, or nothing of this split.
    """
    keys, here = read_keys(file), set(source.keys())
    mine = [key for key in keys if key in here]
    if len(mine) < len(keys):
        elsewhere = _keys_of_other_splits(where, options, split)
        if unknown := [key for key in keys if key not in here and key not in elsewhere]:
            raise unknown_keys(source, unknown, len(keys))
        if not mine:
            raise DataError(
                f"{file} names no sample of split '{split}' of {where}: all of its {len(keys)} keys are of other "
                f"splits; list keys of '{split}' too, or open another split"
            )
    return select_keys(source, mine)


def _keys_of_other_splits(where: str, options: Mapping[str, str], split: str) -> set[str]:
    if where == "scenes":
        others = [name for name in SPLITS if name != split]
        return {key for name in others for key in _open(where, options, name).keys()}
    if split == ALL or where.startswith("hf:"):
        return set()
    return set(_open(where, options, ALL).keys())


def _open(where: str, options: Mapping[str, str], split: str) -> Source:
    if where == "scenes":
        from diptych.data.scenes.source import from_options

        return from_options(options, "train" if split == ALL else split)
    fields = _fields(options)
    if where.startswith("hf:"):
        from diptych.data.sources.huggingface import HuggingFaceSource

        split = "train" if split == ALL else split
        return HuggingFaceSource(where.removeprefix("hf:"), names_of(split), fields)
    source = _open_files(where, split, fields)
    if len(source) == 0:
        raise _nothing_in(Path(where))
    return source


def _nothing_in(place: Path) -> DataError:
    """Why there is nothing to read: no pictures, or pictures of which nothing is said."""
    from diptych.data.sources._tar_members import PICTURES

    files = place.iterdir() if place.is_dir() else ()
    if loose := sum(path.suffix.lower().removeprefix(".") in PICTURES for path in files):
        return DataError(
            f"{place} holds {loose} pictures of which nothing is said: give a table of their captions in "
            f"{place / 'captions.csv'} (columns image and caption), or a folder for each class"
        )
    return DataError(f"{place} holds no pictures: nothing to read")


def has_training_split(reference: str, split: str) -> bool:
    """Whether the names of local files or folders tell a "train" split apart from `split`."""
    where = Path(reference.partition("?")[0])
    if "held_out=" in reference and split == "test":
        return True
    if split in (ALL, "train") or "keys=" in reference or not where.is_dir():
        return False
    names = [*where.rglob("*.tar"), *where.rglob("*.parquet"), *where.glob("*-images-idx3-ubyte*"), *_inner(where)]
    return "train" in splits_of([str(name) for name in names])


def _fields(options: Mapping[str, str]) -> Sequence[str]:
    for name in options:
        if name != "captions":
            raise unknown_name("option of a source", name, ("captions", "held_out", "keys"))
    return (options["captions"],) if "captions" in options else CAPTION_FIELDS


def _open_files(where: str, split: str, fields: Sequence[str]) -> Source:
    path = Path(where)
    if not where:
        raise DataError(f"no data are named: give {_KINDS}")
    if is_pattern(where):
        return _tars(expand(where), split, fields, where)
    if path.is_file():
        return _open_file(path, fields)
    if path.is_dir():
        return _open_folder(path, split, fields)
    raise DataError(f"no data at {where}: give {_KINDS}")


def _open_file(path: Path, fields: Sequence[str]) -> Source:
    from diptych.data.sources.conversations import ConversationFile, holds_conversations
    from diptych.data.sources.parquet import ParquetSource
    from diptych.data.sources.table import ENDINGS, TableSource

    if path.suffix == ".tar":
        return _tars([str(path)], ALL, fields, str(path))
    if path.suffix == ".parquet":
        return ParquetSource([path], fields)
    if holds_conversations(path):
        return ConversationFile(path)
    if path.suffix in ENDINGS:
        return TableSource(path, fields=fields)
    raise DataError(f"{path} is no kind of data known here: expected .tar, .parquet, .csv, .tsv, .jsonl or .json")


def _open_folder(folder: Path, split: str, fields: Sequence[str]) -> Source:
    """Looks for tars, then parquet, then a table, then IDX files, then class folders."""
    from diptych.data.sources.class_folders import ClassFolders
    from diptych.data.sources.idx import IdxSource, pictures_in
    from diptych.data.sources.parquet import ParquetSource
    from diptych.data.sources.table import NAMES, TableSource

    if tars := sorted(folder.rglob("*.tar")):
        return _tars([str(tar) for tar in tars], split, fields, str(folder))
    if files := sorted(folder.rglob("*.parquet")):
        return ParquetSource([Path(name) for name in of_split([str(f) for f in files], split, str(folder))], fields)
    if tables := [folder / name for name in NAMES if (folder / name).is_file()]:
        return TableSource(tables[0], fields=fields)
    if idx := pictures_in(folder):
        return IdxSource([Path(name) for name in of_split([str(f) for f in idx], split, str(folder))])
    if split != ALL and (inner := _inner(folder)):
        return ClassFolders(folder, [Path(name).name for name in of_split([str(f) for f in inner], split, str(folder))])
    return ClassFolders(folder)


def _inner(folder: Path) -> list[Path]:
    """The folders in it, when every one of them is named for a split (a class of things may be called "train")."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    return folders if all(split_name(path.name.lower()) in SPLITS for path in folders) else []


def _tars(paths: Sequence[str], split: str, fields: Sequence[str], where: str) -> Source:
    from diptych.data.sources.tar import TarSource

    return TarSource(of_split(paths, split, where), fields, name=where)
