"""Without QK-norm Chameleon's training is less stable at a high learning rate.

Chameleon Team 2024 (arXiv 2405.09818, section 2.3): queries and keys are normalised, because training diverges without;
Wortsman et al. 2023 (arXiv 2309.14322) see it in small models where the learning rate is high. The rate is 15 times the
recipe's, gradients are clipped in both arms, and nothing but `head_norm` differs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from _claim import FEW, Arm, Claim, Comparison, threshold
from _drawing import quiet
from _sources import as_run

from diptych.recipes.chameleon_tiny import ChameleonRun, chameleon_tiny
from diptych.training.optimizer import AdamWConfig, WarmupCosine
from diptych.training.run import Budget
from diptych.training.stages import Context, Evaluate, Show

RATE, STEPS, WARMUP, BATCH = 3e-2, 120, 20, 16


@dataclass(frozen=True, kw_only=True)
class Unmeasured(ChameleonRun):
    """Its curve alone is of interest, so that nothing is drawn or captioned at its end."""

    def evaluator(self, context: Context) -> Evaluate:
        return lambda model: {}

    def shown(self, context: Context) -> Show:
        return lambda model: []


def _run(head_norm: bool) -> ChameleonRun:
    run = as_run(Unmeasured, quiet(chameleon_tiny()))
    return replace(
        run,
        model=replace(run.model, trunk=replace(run.model.trunk, head_norm=head_norm)),
        codes=replace(run.codes, steps=150),
        batch_size=BATCH,
        budget=Budget(steps=STEPS),
        optimizer=AdamWConfig(lr=RATE, weight_decay=0.05),
        schedule=WarmupCosine(warmup=WARMUP),
        log_every=1,
    )


def _calmer(name: str, metric: str, primary: bool = True) -> Comparison:
    return Comparison(name, "normed", "bare", (f"training/{metric}",), lower=True, primary=primary)


CLAIM = Claim(
    sentence="Without QK-norm Chameleon's training is less stable at a high learning rate.",
    arms=(
        Arm("normed", lambda: _run(head_norm=True), (), curves=True),
        Arm("bare", lambda: _run(head_norm=False), (), curves=True),
    ),
    comparisons=(
        _calmer("loss of the last quarter", "loss_end"),
        _calmer("gradient norm of the last quarter", "grad_norm_end"),
        _calmer("largest gradient norm after the first quarter", "grad_norm_largest", primary=False),
    ),
    threshold=threshold(FEW),
    seeds=FEW,
)
