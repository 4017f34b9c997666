"""Who may import whom (docs/architecture.md): every import is read, lazy ones too."""

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "diptych"

LOW = {"distributed", "core"}
MIDDLE = {"capabilities", "adapters", "data", "objectives"} | LOW
MAY_IMPORT = {
    "training": MIDDLE,
    "evaluation": MIDDLE,
    "curation": MIDDLE,
    "serving": MIDDLE,
    "guide": MIDDLE,
    "models": {"layers", "objectives", "decoding", "adapters", "capabilities", "data"} | LOW,
    "decoding": {"layers", "core"},
    "adapters": {"layers", "core"},
    "data": LOW,
    "objectives": LOW,
    "capabilities": LOW,
    "layers": LOW,
    "distributed": {"core"},
    "core": set(),
}
EVERYTHING = {"commands", "recipes", "study"}


def rooms() -> list[str]:
    return sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py")))


def imported_modules(path: Path) -> set[str]:
    """Full names of our modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("diptych")}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


@pytest.mark.parametrize("room", [room for room in rooms() if room not in EVERYTHING])
def test_a_room_imports_only_what_it_may(room: str) -> None:
    assert room in MAY_IMPORT, f"a new room: say in {Path(__file__).name} what it may import"
    allowed = MAY_IMPORT[room] | {room}
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for module in imported_modules(path) - {"diptych", "diptych.__version__"}
        if room_of(module) not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_no_two_rooms_import_each_other() -> None:
    arrows = {
        (room, target)
        for room in rooms()
        for path in (PACKAGE / room).rglob("*.py")
        for module in imported_modules(path)
        if (target := room_of(module)) not in {None, room}
    }
    assert not {frozenset(arrow) for arrow in arrows if (arrow[1], arrow[0]) in arrows}


def test_no_two_folders_of_a_room_import_each_other() -> None:
    def folder_of(parts: Sequence[str]) -> str | None:
        return "/".join(parts[:2]) if len(parts) > 1 and PACKAGE.joinpath(*parts[:2]).is_dir() else None

    arrows = {
        (folder, target)
        for path in PACKAGE.rglob("*.py")
        if (folder := folder_of(path.relative_to(PACKAGE).parts))
        for module in imported_modules(path)
        if (target := folder_of(module.split(".")[1:])) and target != folder
    }
    inside = {(one, other) for one, other in arrows if one.partition("/")[0] == other.partition("/")[0]}
    assert inside and not {frozenset(arrow) for arrow in inside if (arrow[1], arrow[0]) in inside}


def test_model_files_build_on_one_another_without_cycles() -> None:
    files = {
        ".".join(("diptych", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in (PACKAGE / "models").rglob("*.py")
    }
    graph = {name: imported_modules(path) & files.keys() - {name} for name, path in files.items()}

    def reaches(start: str, goal: str, seen: frozenset[str] = frozenset()) -> bool:
        return any(step == goal or (step not in seen and reaches(step, goal, seen | {step})) for step in graph[start])

    assert not [name for name in files if reaches(name, name)]


def test_nothing_imports_torchvision() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] == "torchvision"], path
