import subprocess
import sys
from pathlib import Path

import pytest

from diptych.core import discovery
from diptych.core.errors import ConfigError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "some_runs"
    folder.mkdir()
    (folder / "alpha.py").write_text(
        '"""The alpha. More."""\nVERBS = ("score",)\nREADS: tuple[str, ...] = ("A",)\ndef alpha(): return 7\n'
    )
    (folder / "_hidden.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_files_are_found_by_name_and_literals_read_without_import(package: Path) -> None:
    found = discovery.find(package, "some_runs")
    assert list(found) == ["alpha"]
    assert found["alpha"].literal("VERBS", ()) == ("score",)
    assert found["alpha"].literal("READS", ()) == ("A",)
    assert found["alpha"].literal("ABSENT", 3) == 3
    assert found["alpha"].title == "The alpha. More"
    assert "some_runs.alpha" not in sys.modules


def test_names_resolve_ours_and_theirs(package: Path) -> None:
    found = discovery.find(package, "some_runs")
    assert discovery.resolve("recipe", "alpha", found)() == 7
    assert discovery.resolve("recipe", "some_runs.alpha:alpha", found)() == 7
    with pytest.raises(ConfigError, match="unknown recipe 'alhpa': did you mean 'alpha'"):
        discovery.resolve("recipe", "alhpa", found)
    with pytest.raises(ConfigError, match="no module named 'some_rnus'"):
        discovery.resolve("recipe", "some_rnus.alpha:alpha", found)
    with pytest.raises(ConfigError, match="did you mean 'alpha'"):
        discovery.resolve("recipe", "some_runs.alpha:alpah", found)


def test_two_files_of_one_name_are_refused(package: Path) -> None:
    (package / "sub").mkdir()
    (package / "sub" / "alpha.py").write_text("")
    with pytest.raises(ConfigError, match="two files are named alpha"):
        discovery.find(package, "some_runs")


@pytest.mark.parametrize(
    "arguments", [["--help"], *(["list", kind] for kind in ("models", "recipes", "benchmarks", "sources", "matrix"))]
)
def test_help_and_listings_do_not_import_torch(arguments: list[str]) -> None:
    code = f"""
import sys
from diptych.cli import main
code = main({arguments!r})
assert "torch" not in sys.modules
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_file_has_a_title() -> None:
    for listing in (discovery.models, discovery.recipes, discovery.benchmarks, discovery.sources):
        assert all(found.title for found in listing().values())
