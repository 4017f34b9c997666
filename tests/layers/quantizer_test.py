"""The quantizer: closed forms of its choice, gradients and averages; the same on any cut of the batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from diptych.core.errors import ConfigError
from diptych.distributed.world import leave
from diptych.layers import quantizer as module
from diptych.layers.quantizer import Quantizer, QuantizerConfig
from diptych.training import parallel

SEEDS = (11, 5, 7, 3, 2, 13, 17, 19)


def vectors(pictures: int = 8, width: int = 3, seed: int = 0) -> Tensor:
    """[B, C, 2, 3] in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pictures, width, 2, 3, generator=generator, dtype=torch.float64)


def random_quantizer(config: QuantizerConfig, seed: int = 1) -> Quantizer:
    found = Quantizer(config).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        found.codebook_KC.copy_(torch.randn(found.codebook_KC.shape, generator=generator, dtype=torch.float64))
    return found


@pytest.mark.parametrize("at_once", [1, 50, 1 << 22])
def test_the_choice_is_the_smallest_distance_by_brute_force(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "_DISTANCES_AT_ONCE", at_once)
    found, z = random_quantizer(QuantizerConfig(17, 3)), vectors()
    rows = z.permute(0, 2, 3, 1)
    distances = (rows[..., None, :] - found.codebook_KC).square().sum(-1)
    assert torch.equal(found(z).codes_Bhw, distances.argmin(-1))
    assert len(found(z).codes_Bhw.unique()) > 5
    assert torch.equal(found.nearest(rows), distances.argmin(-1))


def test_of_equal_distances_the_lowest_index_is_taken() -> None:
    found = Quantizer(QuantizerConfig(6, 2)).double()
    with torch.no_grad():
        found.codebook_KC.copy_(torch.tensor([[5.0, 0], [1, 1], [-1, -1], [1, 1], [0, 5], [-1, -1]]))
    z_B2hw = torch.tensor([[0.9, 1.1], [-1.0, -0.5], [0.0, 0.0]], dtype=torch.float64)[:, :, None, None]
    assert found(z_B2hw).codes_Bhw.flatten().tolist() == [1, 2, 1]


def test_the_gradient_passes_straight_through_to_the_encoder_and_not_to_the_codes() -> None:
    found, z = random_quantizer(QuantizerConfig(9, 3, "gradient")), vectors().requires_grad_()
    out = found(z)
    weights = torch.randn(out.vectors_BCHW.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (out.vectors_BCHW * weights).sum().backward()
    chosen = found.lookup(out.codes_Bhw).permute(0, 3, 1, 2)
    torch.testing.assert_close(out.vectors_BCHW, chosen)
    assert z.grad is not None and torch.equal(z.grad, weights)
    assert found.codebook_KC.grad is None or not found.codebook_KC.grad.any()


def test_commitment_moves_the_encoder_only_and_the_codebook_term_the_codes_only() -> None:
    """Both in closed form: 2 (z - e) / (h w C) for a picture's mean, and its negative summed over who chose a code."""
    found, z = random_quantizer(QuantizerConfig(9, 3, "gradient")), vectors().requires_grad_()
    out = found(z)
    z_BhwC, e_BhwC = z.detach().permute(0, 2, 3, 1), found.lookup(out.codes_Bhw).detach()
    per_picture = z_BhwC[0].numel()
    torch.testing.assert_close(out.commitment_B, (z_BhwC - e_BhwC).square().flatten(1).mean(1))
    torch.testing.assert_close(out.codebook_B, out.commitment_B)

    out.commitment_B.sum().backward(retain_graph=True)
    assert z.grad is not None
    torch.testing.assert_close(z.grad.permute(0, 2, 3, 1), 2 * (z_BhwC - e_BhwC) / per_picture)
    assert found.codebook_KC.grad is None or not found.codebook_KC.grad.any()

    z.grad, found.codebook_KC.grad = None, None
    out.codebook_B.sum().backward()
    expected = torch.zeros(9, 3, dtype=torch.float64)
    expected.index_add_(0, out.codes_Bhw.flatten(), (2 * (e_BhwC - z_BhwC) / per_picture).flatten(0, 2))
    assert z.grad is None
    torch.testing.assert_close(found.codebook_KC.grad, expected)


def test_averages_are_those_of_the_paper() -> None:
    """N = g N + (1 - g) n, m = g m + (1 - g) sum z, e = m / N (appendix A.1), over two steps by hand."""
    found = random_quantizer(QuantizerConfig(5, 3, decay=0.9))
    before = found.codebook_KC.clone()
    usage, sums = torch.zeros(5, dtype=torch.float64), torch.zeros(5, 3, dtype=torch.float64)
    for step in range(2):
        z = vectors(seed=step)
        rows, codes = z.permute(0, 2, 3, 1).flatten(0, 2), found(z).codes_Bhw.flatten()
        chosen = nn.functional.one_hot(codes, 5).double()
        usage = 0.9 * usage + 0.1 * chosen.sum(0)
        sums = 0.9 * sums + 0.1 * chosen.T @ rows
        found.after_step()
    torch.testing.assert_close(found.usage_K, usage)
    seen = usage > 0
    assert seen.any()
    torch.testing.assert_close(found.codebook_KC[seen], (sums / usage[:, None])[seen])
    assert torch.equal(found.codebook_KC[~seen], before[~seen])
    assert int(found.steps) == 2


def test_the_first_step_moves_chosen_codes_to_the_mean_of_who_chose_them_and_others_not() -> None:
    found = random_quantizer(QuantizerConfig(40, 3))
    before, z = found.codebook_KC.clone(), vectors(pictures=1)
    codes = found(z).codes_Bhw.flatten()
    found.after_step()
    rows = z.permute(0, 2, 3, 1).flatten(0, 2)
    for code in range(40):
        mine = rows[codes == code]
        torch.testing.assert_close(found.codebook_KC[code], mine.mean(0) if len(mine) else before[code])


def test_evaluation_and_passes_without_gradient_leave_no_trace() -> None:
    found = random_quantizer(QuantizerConfig(5, 3, restart_every=1))
    before = found.codebook_KC.clone()
    with torch.no_grad():
        found(vectors(), SEEDS)
    found.eval()
    found(vectors(), SEEDS)
    found.after_step()
    assert torch.equal(found.codebook_KC, before)
    assert not found.usage_K.any()


@pytest.mark.parametrize("learned", ["gradient", "average"])
def test_codes_that_nobody_chooses_become_vectors_of_the_batch(learned: str) -> None:
    found = random_quantizer(QuantizerConfig(30, 3, learned, restart_every=2, restart_below=0.2))  # type: ignore[arg-type]
    with torch.no_grad():
        found.codebook_KC[10:] += 100.0
    z = vectors()
    out = found(z, SEEDS)
    found.after_step()
    rows = {tuple(row) for row in z.permute(0, 2, 3, 1).flatten(0, 2).tolist()}
    assert not [k for k in range(30) if k not in out.codes_Bhw and tuple(found.codebook_KC[k].tolist()) not in rows]
    # All 20 dead codes are alive, and usage says they are as good as the others.
    assert bool((found.codebook_KC.abs() < 50).all())
    assert bool((found.usage_K >= 0.2 * found.usage_K.mean()).all())
    assert len(set(map(tuple, found.codebook_KC.tolist()))) > 25, "restarted codes are of different vectors"
    # Two steps on it is due again, and not in between.
    with torch.no_grad():
        found.codebook_KC[4] += 100.0
        found.usage_K[4] = 0.0
    found(z, SEEDS)
    found.after_step()
    assert float(found.codebook_KC[4].detach().abs().max()) > 50
    found(z, SEEDS)
    found.after_step()
    assert float(found.codebook_KC[4].detach().abs().max()) < 50


def test_more_dead_codes_than_candidates_are_restarted_as_far_as_they_go() -> None:
    found = random_quantizer(QuantizerConfig(30, 3, restart_every=1))
    with torch.no_grad():
        found.codebook_KC[1:] += 100.0
    found(vectors(pictures=2), SEEDS[:2])
    found.after_step()
    assert int((found.codebook_KC.abs().amax(1) < 50).sum()) == 1 + 2 * 4


@pytest.mark.parametrize("learned", ["gradient", "average"])
@pytest.mark.parametrize("sizes", [(4, 4), (3, 3, 2), (1,) * 8])
def test_any_cut_of_the_batch_leaves_the_same_codebook(learned: str, sizes: tuple[int, ...]) -> None:
    whole, cut = (three_steps(learned, parts) for parts in ((8,), sizes))
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, rtol=1e-12, atol=1e-12, msg=name)


def three_steps(learned: str, sizes: tuple[int, ...]) -> dict[str, Tensor]:
    """The state after three steps, each in passes of these sizes.

    Few codes for the vectors: a code that one vector alone has chosen lies on it, and a restart on the same vector
    would make two equal codes, between which rounding chooses.
    """
    found = random_quantizer(QuantizerConfig(12, 3, learned, restart_every=2, restart_below=0.5))  # type: ignore[arg-type]
    for step in range(3):
        begin = 0
        for size in sizes:
            found(vectors(seed=step)[begin : begin + size], SEEDS[begin : begin + size])
            begin += size
        found.after_step()
    return found.state_dict()


class Holder(nn.Module):
    """What FSDP2 shards: a quantizer in a list is a unit of its own."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, z: Tensor, seeds: tuple[int, ...]) -> Tensor:
        out = self.quantizer(z, seeds)
        return (out.codebook_B + out.vectors_BCHW.flatten(1).sum(1)).sum()


SHARES = {
    "ddp": ((5, 3), False),
    "four": ((3, 1, 2, 2), False),
    "fsdp": ((4, 4), True),
    "four fsdp": ((2, 2, 2, 2), True),
}


def worker(rank: int, size: int, folder: str) -> None:
    """Every case of this many processes: starting them takes longer than what they compute."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=size)
    for name, (shares, sharded) in SHARES.items():
        for learned in ("gradient", "average"):
            if len(shares) == size:
                state = on_processes(shares, sharded, learned)
                torch.save(state, f"{folder}/{name}.{learned}.{rank}.pt")
    leave()


def on_processes(shares: tuple[int, ...], sharded: bool, learned: str) -> dict[str, Tensor]:
    """The state after three steps, of which this process sees its share."""
    found = random_quantizer(QuantizerConfig(12, 3, learned, restart_every=2, restart_below=0.5))  # type: ignore[arg-type]
    holder = Holder(found)
    if sharded:
        fully_shard(holder, mesh=init_device_mesh("cpu", (len(shares),)))
    begin = sum(shares[: dist.get_rank()])
    own = slice(begin, begin + shares[dist.get_rank()])
    for step in range(3):
        holder(vectors(seed=step)[own].requires_grad_(), SEEDS[own]).backward()
        found.after_step()
    return {name: parallel.whole(tensor).detach().clone() for name, tensor in found.state_dict().items()}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the processes ended with: NAME.LEARNED.RANK.pt."""
    found = tmp_path_factory.mktemp("states")
    for size in (2, 4):
        folder = tmp_path_factory.mktemp("processes")
        mp.spawn(worker, (size, str(folder)), nprocs=size)
        for file in folder.glob("*.pt"):
            file.rename(found / file.name)
    return found


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("learned", ["gradient", "average"])
def test_any_number_of_processes_has_the_codebook_of_one(states: Path, name: str, learned: str) -> None:
    expected = three_steps(learned, (8,))
    for rank in range(len(SHARES[name][0])):
        found = torch.load(states / f"{name}.{learned}.{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-12, atol=1e-12, msg=key)


def test_statistics_of_usage() -> None:
    found = Quantizer(QuantizerConfig(8, 2))
    assert found.statistics() == {"perplexity": 0.0, "codes_used": 0.0}
    found.usage_K.fill_(3.0)
    assert found.statistics() == {"perplexity": pytest.approx(8.0), "codes_used": 1.0}
    found.usage_K.copy_(torch.tensor([2.0, 2, 0, 0, 0, 0, 0, 0]))
    assert found.statistics() == {"perplexity": pytest.approx(2.0), "codes_used": 0.25}
    found.usage_K.copy_(torch.tensor([3.0, 1, 0, 0, 0, 0, 0, 0]))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.statistics()["perplexity"] == pytest.approx(math.exp(entropy))


def test_choices_are_made_in_full_precision_under_autocast() -> None:
    found, z = random_quantizer(QuantizerConfig(200, 3)).float(), vectors().float()
    with torch.autocast("cpu", torch.bfloat16):
        out = found(z)
    assert out.vectors_BCHW.dtype == torch.float32
    assert torch.equal(out.codes_Bhw, found(z).codes_Bhw)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"codes": 0}, "0 codes of width 64"),
        ({"decay": 1.0}, "decay 1.0"),
        ({"beta": -0.1}, "beta -0.1"),
        ({"restart_below": 1.0}, "restart_below 1.0 is a share"),
    ],
)
def test_settings_that_make_no_codebook_are_refused(fields: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        QuantizerConfig(**fields)  # type: ignore[arg-type]
