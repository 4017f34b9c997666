"""What the losses hold at their peak, as the operating system counts it: no strip outlives the next.

A process of its own, because memory that a process has had once does not show again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PAIRS = 8192
MATRIX = 4 * PAIRS**2 / 1e6
"""MB of the matrix of all pairs."""

SCRIPT = """
import json, sys, torch
from torch.nn import functional as F
from diptych.objectives.contrastive import info_nce, sigmoid_loss
from diptych.objectives.llip import Mixing, llip_loss
from diptych.objectives.multi_positive import multi_positive_pairs
from diptych.objectives.simclr import nt_xent

def peak():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1e3

torch.set_num_threads(1)
scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0, requires_grad=True)
labels = torch.arange(int(sys.argv[1])) // 2
losses = {
    "info_nce": lambda a, b: info_nce(a, b, scale),
    "sigmoid_loss": lambda a, b: sigmoid_loss(a, b, scale, bias),
    "multi_positive_pairs": lambda a, b: multi_positive_pairs(a, b, labels, scale),
    "nt_xent": lambda a, b: nt_xent(a, b, 0.1),
}

def run(pairs, names):
    rows = [F.normalize(torch.randn(pairs, 16), dim=-1).requires_grad_() for _ in range(2)]
    for name in names:
        losses[name](*rows).backward()

name = sys.argv[2]
labels, whole = labels[:64], labels
run(64, [name])
labels = whole
before = peak()
run(int(sys.argv[1]), [name])
print(json.dumps(peak() - before))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's account of a process")
@pytest.mark.parametrize("name", ["info_nce", "sigmoid_loss", "multi_positive_pairs", "nt_xent"])
def test_a_loss_holds_a_fraction_of_the_matrix_of_all_pairs(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(PAIRS), name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) < 0.5 * MATRIX
