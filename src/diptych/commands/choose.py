"""Which family for what you need and have, with reasons, risks and a recipe that runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> int:
    """`diptych choose --need retrieval captions --pairs 8k --parts --gpus 1`: answers without importing torch."""
    from diptych.guide.advice import advise
    from diptych.guide.situation import Need, Situation, count

    parser = argparse.ArgumentParser(prog="diptych choose", description=__doc__)
    parser.add_argument("--need", nargs="+", required=True, choices=[str(need) for need in Need])
    parser.add_argument("--pairs", default="0", help="pictures with a text: 8000, 8k, 400M")
    parser.add_argument("--images", default="0", help="pictures alone")
    parser.add_argument("--texts", default="0", help="texts alone")
    parser.add_argument("--boxes", action="store_true", help="regions of the pictures are known")
    parser.add_argument("--parts", action="store_true", help="pretrained towers or language models may be used")
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--hours", type=float, default=0.0, help="of the machine; 0: no matter")
    parser.add_argument("--study", type=Path, help="a study.json whose numbers are shown (diptych study makes one)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)

    situation = Situation(
        needs=tuple(Need(need) for need in options.need),
        pairs=count(options.pairs),
        images=count(options.images),
        texts=count(options.texts),
        boxes=options.boxes,
        parts=options.parts,
        gpus=options.gpus,
        hours=options.hours,
    )
    from diptych.guide.evidence import read_evidence

    evidence = read_evidence(options.study)
    found = [_plain(one, evidence, options.gpus) for one in advise(situation)]
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)
    return 0


def _plain(one: Any, evidence: Any, gpus: int) -> dict[str, Any]:
    return {
        "family": str(one.route.family),
        "model": one.route.title,
        "recipe": one.recipe,
        "plan": f"diptych plan {one.recipe} --data DATA --gpus {f'{gpus}xA100' if gpus else '1xcpu'}",
        "tried_on_scenes": one.route.recipe,
        "needs": {str(need): how or "not possible" for need, how in one.how.items()},
        "weight": one.weight,
        "for": [{"why": reason.text, "source": reason.source} for reason in one.pros],
        "against": [{"why": reason.text, "source": reason.source} for reason in one.risks],
        "measured": evidence.of(one.route.recipe, one.how),
    }


def _print(found: list[dict[str, Any]], most: int = 5) -> None:
    """The best routes in full, the others in a line each."""
    from rich.console import Console

    console = Console(highlight=False)
    for place, one in enumerate(found[:most], 1):
        console.print(f"\n[bold]{place}. {one['model']}[/bold] ({one['family']})")
        for need, how in one["needs"].items():
            console.print(f"   {need}: {how}")
        for sign, side in (("+", "for"), ("-", "against")):
            for reason in one[side]:
                console.print(f"   {sign} {reason['why']} [dim]\\[{reason['source']}][/dim]")
        for line in one["measured"]:
            console.print(f"   = {line}")
        console.print(f"   diptych train {one['recipe']} --data DATA")
        console.print(f"   what it takes: {one['plan']}")
        if one["tried_on_scenes"] not in ("", one["recipe"]):
            console.print(f"   or first, on scenes: diptych train {one['tried_on_scenes']}")
    if rest := found[most:]:
        console.print("\nThen: " + ", ".join(one["model"] for one in rest))
