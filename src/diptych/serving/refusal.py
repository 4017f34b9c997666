"""Errors for jobs that a model cannot do: they name the verb it lacks and the models that have it."""

from __future__ import annotations

from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import RULES, Comparable, Verb, reachable
from diptych.core import discovery
from diptych.core.errors import MissingVerb, NotComparable


def require_verb(model: Predictor, verb: Verb) -> None:
    """Looks whether a model has a verb, native or by a rule.

    Raises:
        MissingVerb: it has not; the sentence says from what it would follow, and which models have it.
    """
    if verb not in model.verbs:
        raise MissingVerb(model.name, verb, model.verbs, how_to_have(verb))


def how_to_have(verb: Verb) -> str:
    """The verbs that a verb follows from, and the models that have it natively."""
    rules = [" and ".join(rule.needs) for rule in RULES if rule.verb is verb]
    ways = f"it would follow from {', or from '.join(rules)}; " if rules else ""
    having = [name for name, found in discovery.models().items() if verb in reachable(found.literal("VERBS", ()))]
    return f"{ways}models that have it: {', '.join(having) or 'none yet'}"


def require_comparable(model: Predictor, needed: Comparable, what: str) -> None:
    """Looks whether a model's score compares what a job compares.

    Raises:
        NotComparable: it does not.
    """
    if model.comparable_over not in (Comparable.BOTH, needed):
        of_one = "visual" if model.comparable_over is Comparable.TEXTS else "text"
        raise NotComparable(f"{model.name} compares only the {model.comparable_over} of one {of_one}, and {what}")
