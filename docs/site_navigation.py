"""A hook of mkdocs: the pages of systems, by family, and of claims are found by listing their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.core import discovery

DOCS = Path(__file__).resolve().parent


def on_config(config: Any) -> Any:
    """Adds them to the navigation that mkdocs.yml has."""
    systems = next(section["Systems"] for section in config["nav"] if "Systems" in section)
    systems += [{family: pages} for family, pages in by_family().items()]
    config["nav"].append({"Claims": [f"claims/{page.name}" for page in sorted((DOCS / "claims").glob("*.md"))]})
    return config


def by_family() -> dict[str, list[str]]:
    """The pages of every folder of models, called as the folder is."""
    found: dict[str, list[str]] = {}
    for name, model in discovery.models().items():
        if (DOCS / "systems" / f"{name}.md").exists():
            family = model.path.parent.name.replace("_", " ").capitalize()
            found.setdefault(family, []).append(f"systems/{name}.md")
    return found
