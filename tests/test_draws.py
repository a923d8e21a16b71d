"""Counter-based draws: known answers, moments, independence of how rows are batched."""

from __future__ import annotations

import pytest
import torch

from genmem.draws import Draws, philox

# Philox4x32-10's published known answers (Random123).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_its_published_answers(counter, key, expected):
    words = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in words) == expected


def test_a_row_depends_on_its_own_identity_alone():
    index, rounds = torch.arange(20), torch.arange(20) % 3
    whole = Draws(5, index, rounds)
    for purpose, draw in {"a": Draws.normal, "b": Draws.uniform}.items():
        together = draw(whole, purpose, (3, 5))
        for rows in (slice(0, 1), slice(7, 12), slice(19, 20)):
            assert torch.equal(draw(Draws(5, index[rows], rounds[rows]), purpose, (3, 5)), together[rows])


def test_seed_purpose_index_and_round_each_change_the_numbers():
    base = Draws(0, torch.tensor([7]))
    first = base.normal("noise", (8,))
    others = [
        Draws(1, torch.tensor([7])).normal("noise", (8,)),
        base.normal("other", (8,)),
        Draws(0, torch.tensor([7 + 2**32])).normal("noise", (8,)),
        Draws(0, torch.tensor([7]), torch.tensor([1])).normal("noise", (8,)),
    ]
    for other in others:
        assert not torch.equal(first, other)


def test_a_longer_draw_begins_like_a_shorter_one_where_it_is_uniform():
    draws = Draws(0, torch.arange(4))
    assert torch.equal(draws.uniform("u", (9,))[:, :5], draws.uniform("u", (5,)))


def test_moments_are_those_of_the_distributions():
    draws = Draws(3, torch.arange(200_000))
    normal = draws.normal("n", (4,)).double()
    count = normal.numel()
    # Each statistic in units of its standard error; 5 of them would be a chance of 1 in 10^6.
    assert abs(normal.mean().item()) * count**0.5 < 5
    assert abs(normal.var().item() - 1) * (count / 2) ** 0.5 < 5
    assert abs(normal.pow(4).mean().item() - 3) * (count / 96) ** 0.5 < 5
    assert abs((normal[:, 0] * normal[:, 2]).mean().item()) * 200_000**0.5 < 5
    uniform = draws.uniform("u", (4,)).double()
    assert uniform.min().item() >= 0 and uniform.max().item() < 1
    assert abs(uniform.mean().item() - 0.5) * (12 * count) ** 0.5 < 5


def test_integers_cover_their_range_evenly():
    drawn = Draws(0, torch.arange(100_000)).integers("i", 10)
    counts = torch.bincount(drawn, minlength=10).double()
    assert len(counts) == 10
    chi_squared = ((counts - 10_000) ** 2 / 10_000).sum().item()
    assert chi_squared < 40  # 9 degrees of freedom: 1 in 10^5


def test_integers_refuse_a_range_they_cannot_cover():
    with pytest.raises(ValueError, match="1 … 2\\^31"):
        Draws(0, torch.arange(3)).integers("i", 2**40)
