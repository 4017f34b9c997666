"""What README and docs show is true: Python blocks run, commands parse, links and pictures resolve."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro

from diptych.cli import commands, main
from diptych.commands.eval import _settings
from diptych.core.config import from_plain
from diptych.core.errors import DiptychError
from diptych.evaluation.runner import benchmark_module
from diptych.training.configured import overridden, recipe

ROOT = Path(__file__).parents[1]
FRONT = [ROOT / name for name in ("README.md", "README.ko.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*(page for page in FRONT if page.exists()), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).with_suffix("").as_posix() for page in PAGES]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(diptych [^`]+)`")
FORM = re.compile(r"^[A-Z]+$|^\.\.\.$|\||^my_package")
"""Words of a form rather than a command: `diptych eval RUN`, `diptych study ...`, `diptych list models|recipes`."""
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
    for run in ("clip_tiny-0", "coca_tiny-0"):
        name = run.partition("-")[0]
        assert main(["train", name, "--run", str(folder / "runs" / "demo" / run), *small]) == 0
    short = ["--budget.samples", "16", "--data", "scenes?count=64"]
    assert main(["train", "vq_tiny", "--run", str(folder / "runs" / "vq"), *short]) == 0
    for name, more in (("visualbert", []), ("flava", ["--codebook.steps", "1", "--alignment.samples", "16"])):
        assert main(["train", f"{name}_tiny", "--run", str(folder / "runs" / name), *small, *more]) == 0
    return folder


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page.stem}-{i}" for i, (page, _) in enumerate(PYTHON)])
def test_python_blocks_run(page: Path, code: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    module = ModuleType("example")  # in the list of modules, as dataclasses want it
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, str(page), "exec", dont_inherit=True), vars(module))


def test_the_readme_has_an_example() -> None:
    assert any(page.name == "README.md" for page, _ in PYTHON)


OWN = {
    "train": ("--run", "--resume"),
    "check": ("--run", "--out", "--processes"),
    "plan": ("--gpus", "--samples", "--price", "--out", "--probe"),
}
"""Commands that take the fields of a recipe, and the options that are theirs."""


class Parsed(Exception):  # not an error: the arguments were taken, and nothing shall run
    pass


def stops(parse: Callable[..., Any]) -> Callable[..., Any]:
    """The parser, which ends the command once it has taken the arguments."""

    def parse_and_stop(*args: Any, **options: Any) -> Any:
        raise Parsed(parse(*args, **options))

    return parse_and_stop


def taken(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a command parse its arguments, and no more.

    Raises:
        SystemExit, DiptychError: it does not take them.
    """
    command, *rest = words
    if command in OWN:
        fields = [*rest[1:]]
        for option in OWN[command]:
            if option in fields:
                del fields[fields.index(option) : fields.index(option) + (1 if option == "--probe" else 2)]
        if "--help" not in fields:
            overridden(recipe(rest[0]), fields, command)
        return
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stops(argparse.ArgumentParser.parse_args))
        patch.setattr(
            argparse.ArgumentParser, "parse_intermixed_args", stops(argparse.ArgumentParser.parse_intermixed_args)
        )
        patch.setattr(tyro, "cli", stops(tyro.cli))
        with pytest.raises(Parsed) as parsed:
            commands()[command].load().main(rest)
    if command == "eval":
        options = parsed.value.args[0]
        names = [name for given in options.benchmarks for name in given.split(",") if name not in ("", "...")]
        for name in names:
            benchmark_module(name)
        for benchmark, values in _settings(options.set, names).items():
            from_plain(benchmark_module(benchmark).Settings, values)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_parse(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command line that a page shows: the command, its recipe or benchmarks, every option, every field."""
    monkeypatch.chdir(tmp_path)
    for _, command, *rest in shown_commands(page):
        if not re.fullmatch(r"[a-z][a-z_]*", command):
            continue  # `diptych COMMAND`, `diptych --help`
        assert command in commands(), f"{page.name} shows `diptych {command}`, which there is not"
        if not rest or any(FORM.search(word) for word in rest):
            continue
        for word in rest:
            if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", word):
                (tmp_path / word).mkdir(parents=True, exist_ok=True)  # a recipe may ask whether a folder is there
        try:
            taken([command, *rest], monkeypatch)
        except (SystemExit, DiptychError) as error:
            pytest.fail(f"{page.name}: diptych {command} {shlex.join(rest)}\n{error} {capsys.readouterr().err}")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "clip_tinyy"],
        ["train", "clip_tiny", "--budget.stepz", "3"],
        ["eval", "runs/a", "--benchmarks", "retrievall"],
        ["eval", "runs/a", "--benchmarks", "retrieval", "--set", "retrieval.poool=3"],
        ["search", "photos/", "a dog", "--model", "m", "--topp", "3"],
        ["list", "modelz"],
    ],
)
def test_a_command_that_is_wrong_would_be_seen(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((SystemExit, DiptychError)):
        taken(words, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_pictures_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    relative = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link and not link.startswith("#")]
    assert [link for link in relative if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_of_the_source_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(r"`((?:src|tests|docs|benchmarks|[a-z]+)/[\w/]+\.(?:py|md|txt))`", page.read_text()))
    places = (ROOT, ROOT / "src" / "diptych")
    assert [path for path in named if not any((place / path).exists() for place in places)] == []
