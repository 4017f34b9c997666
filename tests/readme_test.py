"""What README and docs show is true: Python blocks run, commands and settings exist, links and pictures resolve."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from diptych.cli import commands, main
from diptych.core import discovery

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(diptych [^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


def shown_commands(page: Path) -> list[list[str]]:
    """Every command line of ours, split into words; comments left out."""
    lines = [line for code in blocks(page, "bash") for line in code.replace("\\\n", " ").splitlines()]
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    lines += INLINE.findall(prose)
    words = [shlex.split(line, comments=True) for line in lines]
    torchrun = [line[line.index("diptych.cli") :] for line in words if "diptych.cli" in line]
    return [line for line in words if line[:1] == ["diptych"] and len(line) > 1] + torchrun


PYTHON = [(page, code) for page in PAGES for code in blocks(page, "python")]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo's run and some pictures lie, as the examples assume."""
    folder = tmp_path_factory.mktemp("reader")
    small = ["--data", "scenes?count=64", "--budget.steps", "1", "--batch_size", "16", "--threads", "1"]
    for name in ("clip_tiny", "siglip_tiny"):
        assert main(["train", name, "--run", str(folder / "runs" / "demo" / name), *small]) == 0
    short = ["--budget.samples", "16", "--data", "scenes?count=64"]
    assert main(["train", "vq_tiny", "--run", str(folder / "runs" / "vq"), *short]) == 0
    for name, more in (("visualbert", []), ("flava", ["--codebook.steps", "1", "--alignment.samples", "16"])):
        assert main(["train", f"{name}_tiny", "--run", str(folder / "runs" / name), *small, *more]) == 0
    return folder


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page.stem}-{i}" for i, (page, _) in enumerate(PYTHON)])
def test_python_blocks_run(page: Path, code: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    exec(compile(code, str(page), "exec"), {"__name__": "example"})


def test_the_readme_has_an_example() -> None:
    assert any(page.name == "README.md" for page, _ in PYTHON)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_commands_and_names_exist(page: Path) -> None:
    known = {
        "train": discovery.recipes(),
        "check": discovery.recipes(),
    }
    for _, command, *rest in shown_commands(page):
        if not re.fullmatch(r"[a-z][a-z_]*", command):
            continue  # `diptych COMMAND`, `diptych --help`
        assert command in commands(), f"{page.name} shows `diptych {command}`, which there is not"
        name = rest[0] if rest else ""
        if command in known and re.fullmatch(r"[a-z]\w*", name):
            assert name in known[command], f"{page.name}: `diptych {command} {name}`"
        if "--benchmarks" in rest:
            named = [
                word for word in " ".join(_values(rest, "--benchmarks")).replace(",", " ").split() if word != "..."
            ]
            assert set(named) <= set(discovery.benchmarks()), f"{page.name}: {named}"


def _values(words: list[str], option: str) -> list[str]:
    """The words after an option, up to the next one."""
    after = words[words.index(option) + 1 :]
    ends = [index for index, word in enumerate(after) if word.startswith("--")]
    return after[: ends[0]] if ends else after


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_links_and_pictures_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    relative = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link and not link.startswith("#")]
    assert [link for link in relative if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_paths_of_the_source_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"`((?:src|tests|docs|benchmarks|[a-z]+)/[\w/]+\.(?:py|md|txt))`", page.read_text()))
    places = (ROOT, ROOT / "src" / "diptych")
    assert [path for path in named if not any((place / path).exists() for place in places)] == []
