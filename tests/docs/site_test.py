"""The documentation site builds: every page in the navigation, every link and anchor found, equations marked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from diptych.core import discovery

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_navigation_lists_every_system_and_every_claim(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    claims = [page.stem for page in (ROOT / "docs" / "claims").glob("*.md")]
    wanted = [f"systems/{name}/" for name in discovery.models()] + [f"claims/{name}/" for name in claims]
    assert [page for page in wanted if f'href="{page}"' not in front] == []


def test_equations_are_marked_for_mathjax_and_prices_and_paths_are_not(site: Path) -> None:
    assert r'class="arithmatex">\[' in (site / "systems" / "clip" / "index.html").read_text(encoding="utf-8")
    marked = [page for page in site.rglob("index.html") if 'class="arithmatex"' in page.read_text(encoding="utf-8")]
    assert {page.parent.parent.name for page in marked} == {"systems"}


def test_nothing_of_the_build_is_fetched_from_elsewhere_but_mathjax(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    outside = [part.split('"')[0] for part in front.split('src="')[1:] if part.startswith("http")]
    assert len(outside) == 1 and "mathjax" in outside[0]
    assert "fonts.googleapis" not in front
