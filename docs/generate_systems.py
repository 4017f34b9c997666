"""What is proven of every system, from the tests' own marks and the result files: docs/systems.md, its pages, README.

    python docs/generate_systems.py

writes what stands between two marks of each page; tests/docs/systems_page_test.py compares the pages with it. There
is no list of systems here: models are found as `diptych list models` finds them, parity by the mark
`pytest.mark.parity(models, beside, what)` on tests, claims and photographs by their result files.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from diptych.core import discovery

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
BEGIN, END = "<!-- from the records, by docs/generate_systems.py -->", "<!-- end of the records -->"
HEADLINES = (
    ("captioning", "cider", "CIDEr-D {:.2f}", 1),
    ("retrieval", "text_to_image_r10", "text to image R@10 {:.1f} %", 100),
)
"""What stands for a run on photographs: the first (benchmark, metric) it was asked, how it is printed, its scale."""
FAMILIES = {
    "contrastive": ("Contrastive", "contrastive.md"),
    "early_fusion": ("Early fusion", "early_fusion.md"),
    "masked": ("Masked", "masked.md"),
    "generative": ("Generative", "generative.md"),
    "pretrained_backbone": ("Pretrained backbones", "backbones.md"),
    "image_tokenizer": ("Image tokenizers", "image_tokenizers.md"),
    "supervised": ("Supervised", "contrastive.md"),
}
"""How a folder of models is called, and its page."""
HEAD = ("family", "system", "same numbers as", "claims that hold", "on photographs")
KOREAN_HEAD = ("계열", "시스템", "같은 수치", "성립한 주장", "사진에서")
KOREAN = {
    "contrastive": "대조 학습",
    "early_fusion": "초기 융합",
    "masked": "마스킹",
    "generative": "생성",
    "pretrained_backbone": "사전 학습된 백본",
    "image_tokenizer": "이미지 토크나이저",
    "supervised": "지도 학습",
}


@dataclass(frozen=True)
class Parity:
    """A marked test: which models it holds to what, and in what; `part` where a part of them only is there."""

    models: tuple[str, ...]
    beside: str
    what: str
    part: bool
    file: str


@dataclass(frozen=True)
class Record:
    """A result: which models it is about, and how it is said in a cell."""

    models: frozenset[str]
    text: str


def systems() -> dict[str, list[str]]:
    """Model files by family, in the order of the families."""
    found: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in discovery.models():
        found[_family(name)].append(name)
    return {family: names for family, names in found.items() if names}


def page_of(model: str) -> Path:
    """Where a system is described."""
    return DOCS / "systems" / f"{model}.md"


def title_of(model: str) -> str:
    """The heading of its page; of a model without one, what its file says first."""
    if not page_of(model).exists():
        return discovery.models()[model].title.split(":")[0]
    return page_of(model).read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")


def _linked(model: str) -> str:
    page = f"systems/{model}.md" if page_of(model).exists() else FAMILIES[_family(model)][1]
    return f"[{title_of(model)}](docs/{page})"


def _family(model: str) -> str:
    return discovery.models()[model].path.parent.name


@cache
def parities() -> tuple[Parity, ...]:
    """Every test function that bears the mark."""
    return tuple(mark for path in sorted((ROOT / "tests").rglob("*_test.py")) for mark in _marks(path))


def _marks(path: Path) -> Iterator[Parity]:
    text = path.read_text(encoding="utf-8")
    if "mark.parity(" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.parity":
                models, beside, what = (ast.literal_eval(argument) for argument in mark.args)
                named = (models,) if isinstance(models, str) else tuple(models)
                part = any(keyword.arg == "part" for keyword in mark.keywords)
                yield Parity(named, beside, what, part, path.relative_to(ROOT).as_posix())


@cache
def own_tests(model: str) -> tuple[str, ...]:
    """The test files of its family that import the model file."""
    module = discovery.models()[model].module
    files = sorted((ROOT / "tests" / "models" / _family(model)).glob("*_test.py"))
    return tuple(path.relative_to(ROOT).as_posix() for path in files if module in _imports(path))


@cache
def _imports(path: Path) -> frozenset[str]:
    return frozenset(_imported(ast.parse(path.read_text(encoding="utf-8"))))


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules that a file may import: `from a import b` is a, or a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@cache
def models_of(recipe: str) -> frozenset[str]:
    """The models that a recipe is about: the one whose `Config` its `model` is, else those that its file imports."""
    known, found = discovery.models(), discovery.recipes()[recipe]
    sizes = getattr(discovery.resolve("recipe", recipe, discovery.recipes())(), "model", None)
    if sizes is not None:
        return frozenset(name for name, model in known.items() if getattr(model.load(), "Config", None) is type(sizes))
    return frozenset(name for name, model in known.items() if model.module in _imports(found.path))


def recipes_of(model: str) -> list[str]:
    """The recipes that are about a model."""
    return [name for name in discovery.recipes() if model in models_of(name)]


@cache
def claims() -> tuple[Record, ...]:
    """Every claim that has a result: its treated arms' models, and the verdict with a link."""
    return tuple(_claim(path) for path in sorted((ROOT / "benchmarks" / "claims" / "results").glob("*.json")))


def _claim(path: Path) -> Record:
    result = json.loads(path.read_text(encoding="utf-8"))
    treated = {one["treated"] for one in result["comparisons"] if one["primary"]}
    recipes = {result["arms"][arm]["config"]["name"] for arm in treated}
    sentence = result["sentence"].rstrip(".")
    text = f"[{sentence}](docs/claims/{path.stem}.md): {result['verdict']}"
    return Record(frozenset().union(*(models_of(recipe) for recipe in recipes)), text)


@cache
def photographs() -> tuple[Record, ...]:
    """What recipes reached on real pictures: files with evaluations of runs, and those called after a recipe."""
    return tuple(one for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")) for one in _reached(path))


def _reached(path: Path) -> Iterator[Record]:
    result = json.loads(path.read_text(encoding="utf-8"))
    if path.stem in discovery.recipes() and "config" in result:
        setting = result["config"]
        yield Record(models_of(path.stem), f"{setting['data']}, {len(setting['seeds'])} seeds")
        return
    for name, run in result.items():
        if isinstance(run, dict) and "evaluations" in run:
            yield Record(models_of(name.split(",")[0]), f"`{name}`: {_headline(run)}")


def _headline(run: dict[str, Any]) -> str:
    for benchmark, metric, form, scale in HEADLINES:
        if benchmark in run["evaluations"]:
            return form.format(scale * run["evaluations"][benchmark]["metrics"][metric]["value"])
    raise ValueError(f"no headline in {sorted(run['evaluations'])}: add one to HEADLINES")


def said(records: tuple[Record, ...], model: str) -> list[str]:
    """What records say of a model."""
    return [record.text for record in records if model in record.models]


def beside(model: str) -> dict[str, list[Parity]]:
    """Its parity tests by what they hold it to."""
    found: dict[str, list[Parity]] = {}
    for parity in parities():
        if model in parity.models:
            found.setdefault(parity.beside, []).append(parity)
    return found


def proven(model: str) -> str:
    """The lines of a system's own page."""
    lines = [_parity_line(name, tests) for name, tests in beside(model).items()]
    if not lines:
        lines = ["Parity: none; nothing that is kept elsewhere has it, or it adds little to what has parity itself"]
    lines.append(
        f"Test files that import it, beside the contract that all are held to: {_code(own_tests(model)) or 'none'}"
    )
    lines += [f"Claim: {text}" for text in said(claims(), model)]
    lines += [f"On photographs: {text}" for text in said(photographs(), model)]
    found = discovery.models()[model]
    lines.append(f"Verbs of its own: {_code(found.literal('VERBS', ()))}")
    lines.append(f"Public weights it reads: {_code(found.literal('READS', ())) or 'none'}")
    lines.append(f"Recipes: {_code(recipes_of(model)) or 'none yet'}")
    return "\n".join(f"* {line.replace('](docs/', '](../')}" for line in lines)


def _parity_line(name: str, tests: list[Parity]) -> str:
    files = _code(dict.fromkeys(test.file for test in tests))
    return f"Parity beside {name}: {'; '.join(test.what for test in tests)} ({files})"


def _code(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def long_table() -> str:
    """docs/systems.md: a table for each family."""
    head = ["system", "held to, in", "test files", "claims", "photographs", "recipes"]
    parts = []
    for family, names in systems().items():
        title, page = FAMILIES[family]
        parts.append(f"## {title}\n\nFamily page: [{page}]({page}).\n\n{_table(head, [_long_row(n) for n in names])}")
    return "\n\n".join(parts).replace("](docs/", "](")


def _long_row(model: str) -> list[str]:
    held = [f"{name}: {'; '.join(test.what for test in tests)}" for name, tests in beside(model).items()]
    return [
        _linked(model),
        "<br>".join(held),
        str(len(own_tests(model))),
        "<br>".join(said(claims(), model)),
        "<br>".join(said(photographs(), model)),
        _code(recipes_of(model)),
    ]


def short_table(head: Sequence[str], called: Mapping[str, str]) -> str:
    """README: a row a system; `called` names the families."""
    rows = []
    for family, names in systems().items():
        rows += [_short_row(called[family] if index == 0 else "", name) for index, name in enumerate(names)]
    return _table(head, rows)


def _short_row(family: str, model: str) -> list[str]:
    verdicts = [text.endswith(": holds") for text in said(claims(), model)]
    return [
        family,
        _linked(model),
        ", ".join(_libraries(model)),
        f"{sum(verdicts)} / {len(verdicts)}" if verdicts else "",
        "<br>".join(said(photographs(), model)),
    ]


def _libraries(model: str) -> list[str]:
    """The libraries that a model is held to; in brackets those that have a part of it only."""
    whole = {name.split(" ")[0] for name, tests in beside(model).items() if not all(test.part for test in tests)}
    parts = {name.split(" ")[0] for name in beside(model)} - whole
    return [*sorted(whole), *(f"({name})" for name in sorted(parts))]


def weights_table() -> str:
    """docs/howto_public_weights.md: what is read, and by which model."""
    rows = [
        [f"`{name}`", _linked(model).replace("](docs/", "](")]
        for models in systems().values()
        for model in models
        for name in discovery.models()[model].literal("READS", ())
    ]
    return _table(["class, or kind of folder", "read by"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def filled(text: str, block: str) -> str:
    """The page with the block between its marks.

    Raises:
        ValueError: the page lacks the marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN!r} ... {END!r}")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def pages() -> dict[Path, str]:
    """Every page with a block, and the block."""
    own = {page_of(model): proven(model) for model in discovery.models() if page_of(model).exists()}
    return {
        DOCS / "systems.md": long_table(),
        DOCS / "howto_public_weights.md": weights_table(),
        ROOT / "README.md": short_table(HEAD, {family: name for family, (name, _) in FAMILIES.items()}),
        ROOT / "README.ko.md": short_table(KOREAN_HEAD, KOREAN),
        **own,
    }


def main() -> None:
    for page, block in pages().items():
        page.write_text(filled(page.read_text(encoding="utf-8"), block), encoding="utf-8")


if __name__ == "__main__":
    main()
