"""COCO's annotations as CHAIR reads them: instances*.json, captions*.json where there is one, synonyms.txt.

What is in a picture is what is annotated there and what people's captions of it name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diptych.core.errors import DataError
from diptych.evaluation.captions.described_picture import Described
from diptych.evaluation.files import check_entries, read_json
from diptych.evaluation.metrics.object_mentions import Vocabulary, read_synonyms
from diptych.evaluation.picture_folder import PictureFolder

SYNONYMS = "synonyms.txt"


@dataclass(frozen=True)
class Annotated:
    """Pictures with their objects, the words for these, and sentences about where both are from."""

    pictures: list[Described]
    vocabulary: Vocabulary
    notes: list[str]


def holds_chair(folder: Path) -> bool:
    """Whether there are COCO's instances."""
    return bool(sorted(folder.glob("instances*.json")))


def read_chair(folder: Path, images: str, synonyms: str) -> Annotated:
    """The pictures of the instances.

    Args:
        images: the folder of the pictures; "" for `images` beside the files.
        synonyms: a file of synonyms; "" for synonyms.txt beside the files, or none.

    Raises:
        DataError: files are missing, several, or not COCO's; a category that the synonyms do not know.
    """
    path = _only(sorted(folder.glob("instances*.json")), folder, "instances*.json")
    plain = read_json(path)
    for name, fields in (("categories", ("id", "name")), ("images", ("id",)), ("annotations", ("image_id",))):
        if not isinstance(plain, dict) or not isinstance(plain.get(name), list):
            raise DataError(f"{path} has no list of '{name}', which COCO's file has")
        check_entries(plain[name], fields, path)
    vocabulary, notes = _vocabulary(folder, synonyms, [str(one["name"]) for one in plain["categories"]])
    objects: dict[str, set[str]] = {str(one["id"]): set() for one in plain["images"]}
    names = {one["id"]: _object(vocabulary, str(one["name"]), path) for one in plain["categories"]}
    for one in plain["annotations"]:
        if str(one["image_id"]) not in objects:
            raise DataError(f"{path}: an annotation is of picture {one['image_id']}, which its images do not have")
        objects[str(one["image_id"])].add(names[one["category_id"]])
    notes.append(_add_captions(folder, objects, vocabulary))
    pictures = PictureFolder(folder, images)
    files = {str(one["id"]): str(one.get("file_name", "")) for one in plain["images"]}
    found = [
        Described(key, partial(pictures.read, _names(key, files[key])), frozenset(there))
        for key, there in objects.items()
    ]
    return Annotated(found, vocabulary, notes)


def _vocabulary(folder: Path, synonyms: str, categories: Sequence[str]) -> tuple[Vocabulary, list[str]]:
    path = Path(synonyms) if synonyms else folder / SYNONYMS
    if path.is_file():
        return Vocabulary(read_synonyms(path.read_text(encoding="utf-8"))), []
    if synonyms:
        raise DataError(f"no file of synonyms at {synonyms}")
    note = f"No {SYNONYMS}: objects are found by the names of their categories alone, so CHAIR is lower than published."
    return Vocabulary({name: [] for name in categories}), [note]


def _object(vocabulary: Vocabulary, category: str, path: Path) -> str:
    found = vocabulary.of(category)
    if found is None:
        raise DataError(f"{path}: the synonyms do not know the category '{category}'")
    return found


def _add_captions(folder: Path, objects: dict[str, set[str]], vocabulary: Vocabulary) -> str:
    """Adds what people name; says whether there was anything."""
    files = sorted(folder.glob("captions*.json"))
    if not files:
        return "No captions*.json: what is there is what is annotated, without what people's captions name."
    path = _only(files, folder, "captions*.json")
    plain = read_json(path)
    said = plain.get("annotations") if isinstance(plain, dict) else None
    if not isinstance(said, list):
        raise DataError(f"{path} has no list of 'annotations', which COCO's file has")
    check_entries(said, ("image_id", "caption"), path)
    for one in said:
        if (there := objects.get(str(one["image_id"]))) is not None:
            there.update(vocabulary.mentions(str(one["caption"])))
    return "What is there is what is annotated, and what people's captions name."


def _only(found: Sequence[Path], folder: Path, what: str) -> Path:
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{folder} should have one file {what}, and has: {names}")
    return found[0]


def _names(key: str, file_name: str) -> list[str]:
    numbers = [f"{int(key):012d}.jpg", f"COCO_val2014_{int(key):012d}.jpg"] if key.isdigit() else []
    return [name for name in (file_name, *numbers, f"{key}.jpg") if name]
