"""Rows in training and in sampling: both views, raw banks, any row, draws by class and by noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bank_data import FACTS, Features, batch_of, configure, decaying, make, unit

from genmem.contracts import Hide
from genmem.draws import Draws
from genmem.testing import check_memory
from genmem_bank.conditioning.drawing import draw_by_noise
from genmem_bank.conditioning.store import SvdBank

LABELS = np.repeat([3, 5, 8, -1], [30, 20, 6, 4])
RAW: dict[str, Any] = {"rank": "raw"}


def labelled(folder: Path, **changes: Any) -> SvdBank:
    """A bank of both views, with classes."""
    config = configure(folder, **changes)
    config.prepare(Features(folder, decaying(), mirrored=decaying(seed=7), label_N=LABELS))
    return config.build(FACTS)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("normalise", [True, False])
def test_a_raw_bank(tmp_path: Path, dtype: str, normalise: bool) -> None:
    """Behind the same store: the unit features themselves, within the rounding of their form."""
    bank = make(tmp_path, decaying(), dtype=dtype, normalise=normalise, **RAW)
    check_memory(bank)
    atol = {"fp32": 1e-6, "bf16": 2**-8, "fp16": 2**-11}[dtype]
    rows = bank.rows(torch.arange(60))[:, 0]
    np.testing.assert_allclose(rows.numpy(), unit(decaying()), atol=atol)
    encoded = bank.encode(batch_of([0, 1], 3 * decaying()[:2]))[:, 0]
    np.testing.assert_allclose(encoded.numpy(), unit(decaying())[:2], atol=1e-6)
    q = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    expected = (3.0 * q @ rows.T).logsumexp(1)
    torch.testing.assert_close(bank.attend(q, 3.0).lse_B, expected, rtol=1e-5, atol=1e-5)
    if normalise:  # rounded rows that keep their length can be nearer to longer ones
        assert torch.equal(bank.nearest(rows, 1)[1][:, 0], torch.arange(60))


@pytest.mark.parametrize("form", [{"rank": 12}, RAW])
def test_each_view_has_its_own_row(tmp_path: Path, form: dict[str, Any]) -> None:
    """By sample number and view; attention hides both views of a query's sample."""
    bank = labelled(tmp_path, **form)
    check_memory(bank)
    index, view = np.array([3, 59, 3]), np.array([1, 0, 0])
    fetched = bank.fetch(index, view)
    assert fetched is not None and bank.num_rows == 120
    rows = bank.decode(torch.from_numpy(fetched))[:, 0].numpy()
    expected = np.stack([unit(decaying(seed=7))[3], unit(decaying())[59], unit(decaying())[3]])
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    batch = batch_of(index)._replace(view_B=torch.from_numpy(view))
    np.testing.assert_allclose(bank.read(batch, None, None)[:, 0].numpy(), expected, atol=1e-5)
    assert bank.samples_of(torch.tensor([59, 60, 119])).tolist() == [59, 0, 59]
    assert bank.labels_of(torch.tensor([0, 60, 119])).tolist() == [3, 3, -1]
    assert bank.attend(torch.randn(1, 12), 1.0, Hide(torch.tensor([3]))).count_B.tolist() == [118.0]


def test_any_row_in_training(tmp_path: Path) -> None:
    """Algorithm 1: uniform over the rows, of a sample and epoch alone; outside training a sample's own."""
    bank = make(tmp_path, decaying(), train_row="drawn")
    own = make(tmp_path, decaying())
    index = np.arange(6000)
    batch = batch_of(index)
    assert bank.fetch(index, index * 0) is None
    rows, every = bank.read(batch, None, Draws(0, batch.index_B))[:, 0], own.rows(torch.arange(60))[:, 0]
    counts = torch.bincount((rows @ every.T).argmax(1), minlength=60)
    # Chi-squared with 59 degrees of freedom has mean 59 and deviation 10.9.
    assert float(((counts - 100.0) ** 2 / 100).sum()) < 59 + 5 * 10.9
    part = batch_of(index[40:50])
    assert torch.equal(bank.read(part, None, Draws(0, part.index_B))[:, 0], rows[40:50])
    later = Draws(0, batch.index_B, torch.ones_like(batch.index_B))
    assert not torch.equal(bank.read(batch, None, later)[:, 0], rows)
    few = batch_of([5, 59])
    assert torch.equal(bank.read(few, None, None), own.rows(few.index_B))


def test_draws_balanced_over_classes(tmp_path: Path) -> None:
    """Exactly as often each class that rows have, any row within it, both views; -1 never."""
    bank = labelled(tmp_path, draw="class-balanced")
    index = torch.arange(9000)
    numbers = bank.choose(Draws(0, index), None, torch.zeros(9000, 1))
    labels = bank.labels_of(numbers)
    assert {label: int((labels == label).sum()) for label in (3, 5, 8)} == {3: 3000, 5: 3000, 8: 3000}
    counts = torch.bincount(numbers[labels == 8], minlength=120)
    rows = torch.from_numpy(np.flatnonzero(np.tile(LABELS, 2) == 8))
    assert len(rows) == 12 and int(counts[rows].sum()) == 3000
    assert int(counts[rows].min()) > 180 and int(counts[rows].max()) < 320
    assert torch.equal(bank.choose(Draws(0, index[70:80]), None, torch.zeros(10, 1)), numbers[70:80])
    asked = torch.tensor([5, 3, 8, 8])
    given = bank.choose(Draws(0, torch.arange(4)), asked, torch.zeros(4, 1))
    assert torch.equal(bank.labels_of(given), asked)
    with pytest.raises(ValueError, match="no row of this bank has class 4"):
        bank.choose(Draws(0, torch.arange(1)), torch.tensor([4]), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="no row of this bank has a class"):
        bare = make(tmp_path / "bare", decaying(), draw="class-balanced")
        bare.choose(Draws(0, torch.arange(1)), None, torch.zeros(1, 1))


def test_draws_by_the_noise(tmp_path: Path) -> None:
    """u = Φ(mean · √size), so rows of Gaussian noise are uniform, and a shift of it names a row."""
    bank = make(tmp_path, decaying(), draw="noise")
    noise = torch.randn(6000, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    numbers = bank.choose(Draws(0, torch.arange(6000)), None, noise)
    counts = torch.bincount(numbers, minlength=60)
    assert float(((counts - 100.0) ** 2 / 100).sum()) < 59 + 5 * 10.9
    assert torch.equal(numbers, bank.choose(Draws(9, torch.arange(6000)), None, noise))
    for u, row in ((0.0, 500), (1.0, 841), (-3.0, 1), (40.0, 999)):
        expected = min(int(0.5 * (1 + math.erf(u / math.sqrt(2))) * 1000), 999)
        assert draw_by_noise(torch.full((1, 1, 2, 2), u / 2), 1000).item() == expected == row


def test_damaged_classes(tmp_path: Path) -> None:
    """The file is one of the bank's: missing, it is named."""
    bank = labelled(tmp_path)
    origin = bank.card.segments[0].origin.samples
    assert origin is not None and origin.labels is not None
    (tmp_path / "bank" / origin.labels).unlink()
    with pytest.raises(ValueError, match=rf"{origin.labels}: damaged or missing"):
        bank.config.build(FACTS)
