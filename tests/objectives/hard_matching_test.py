"""Hard negatives: drawn with the softmax of what is allowed, by brute force."""

import torch

from diptych.objectives.hard_matching import draw_hard, others


def test_candidates_are_drawn_with_their_share_of_the_softmax() -> None:
    torch.manual_seed(0)
    logits_AN = 2 * torch.randn(3, 6)
    allowed_AN = torch.tensor([[0, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 0]]).bool()
    draws = 20_000
    uniform_A = (torch.arange(draws) + 0.5) / draws
    for row in range(3):
        drawn = draw_hard(logits_AN[row].expand(draws, 6), allowed_AN[row].expand(draws, 6), uniform_A)
        weights = [float(logits_AN[row, n].exp()) if allowed_AN[row, n] else 0.0 for n in range(6)]
        wanted = torch.tensor(weights) / sum(weights)
        torch.testing.assert_close(drawn.bincount(minlength=6) / draws, wanted, rtol=0, atol=2e-4)
        assert bool(allowed_AN[row][drawn].all())


def test_the_ends_of_the_interval_and_far_apart_logits_give_what_is_allowed() -> None:
    logits_AN = torch.tensor([[500.0, 0.0, -500.0, 0.0]]).expand(4, 4)
    allowed_AN = torch.tensor([[False, True, True, False]]).expand(4, 4)
    last = 1 - 2.0**-24  # the largest number that a uniform draw gives
    assert draw_hard(logits_AN, allowed_AN, torch.tensor([0.0, 0.3, 0.7, last])).tolist() == [1, 1, 1, 1]
    equal_AN, behind_AN = torch.zeros(2, 4), torch.tensor([[False, True, True, False]]).expand(2, 4)
    assert draw_hard(equal_AN, behind_AN, torch.tensor([0.0, last])).tolist() == [1, 2]


def test_a_row_with_nothing_allowed_is_no_number_of_its_own_and_no_nan() -> None:
    logits_AN = torch.randn(2, 3, requires_grad=True)
    allowed_AN = torch.tensor([[False, False, False], [False, False, True]])
    drawn = draw_hard(logits_AN, allowed_AN, torch.tensor([0.5, 0.5]))
    assert drawn.tolist() == [0, 2] and not drawn.requires_grad


def test_others_are_counted_as_by_brute_force() -> None:
    labels_NK = torch.randint(0, 4, (40, 2), generator=torch.Generator().manual_seed(1))
    rows = labels_NK.tolist()
    wanted = [sum(a != c and b != d for c, d in rows) for a, b in rows]
    assert others(labels_NK).tolist() == wanted and len(set(wanted)) > 3
    assert others(torch.tensor([[1, 1], [1, 2], [3, 1]])).tolist() == [0, 1, 1]
    assert others(torch.tensor([[5, 5]])).tolist() == [0]
