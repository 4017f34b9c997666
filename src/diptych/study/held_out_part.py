"""What a study evaluates on, where the data have no test split: a part that is held out once and then stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from diptych.core.errors import DataError
from diptych.core.storage import write_text
from diptych.data.derived.held_out import choose_held_out
from diptych.data.derived.subset import read_keys
from diptych.data.open import open_source
from diptych.study.abilities import is_scenes
from diptych.study.ablation import AblationConfig
from diptych.study.config import StudyConfig

FILE = "held_out.txt"
C = TypeVar("C", StudyConfig, AblationConfig)


def with_test_part(config: C, out: Path) -> C:
    """The same study, or ablation, on data that have a test part: their own split, or what is listed in `out`.

    Raises:
        DataError: the data cannot be opened, or hold too few pictures to part.
    """
    return replace(config, held_out=_listed(config.data, out)) if _needs_parting(config.data) else config


def _listed(data: str, out: Path) -> str:
    """The file of a test part, which is chosen where there is none yet."""
    file = (out / FILE).absolute()
    if not file.is_file():
        chosen = choose_held_out(open_source(data))
        told = f"# {chosen.pictures} of {chosen.of} pictures; {chosen.unread} records could not be read"
        write_text(file, "\n".join([told, *chosen.keys]) + "\n")
        if read_keys(file) != list(chosen.keys):
            file.unlink()
            raise DataError(f"{data} has keys that begin with '#' or a space and cannot be listed: rename them")
    return str(file)


def _needs_parting(data: str) -> bool:
    """Whether its test split is what is trained on too; scenes and Hugging Face datasets have splits of their own."""
    test = open_source(data, "test")
    if is_scenes(data) or data.startswith("hf:"):
        return False
    return list(open_source(data, "train").keys()) == list(test.keys())


def told(config: StudyConfig) -> str:
    """How the data were parted, for the page; "" where they have a split of their own."""
    if not config.held_out:
        return ""
    return Path(config.held_out).read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
