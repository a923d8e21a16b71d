"""The bank as a memory: rows, equations 9 and 10, attention in rank-r space."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bank_data import FACTS, batch_of, configure, decaying, make, unit

from genmem.attention import Chunk
from genmem.contracts import Attended, Hide, Metric
from genmem.draws import Draws
from genmem.testing import check_memory
from genmem_bank.conditioning import attending
from genmem_bank.conditioning.store import SvdBank

INDEX = np.array([3, 59, 0, 3])


def all_rows(bank: SvdBank) -> torch.Tensor:
    """Every row (N, E)."""
    return bank.rows(torch.arange(bank.num_rows))[:, 0]


@pytest.mark.parametrize("normalise", [True, False])
def test_contract(tmp_path: Path, normalise: bool) -> None:
    """What every store must do."""
    bank = make(tmp_path, decaying(), rank=5, normalise=normalise)
    bank.to(torch.device("cpu"))
    check_memory(bank)
    assert bank.abilities == bank.config.abilities and bank.config.features == {"enc"}


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("rank", [5, 12])
def test_equation_9(tmp_path: Path, rank: int, normalise: bool) -> None:
    """A row is the projection of its feature, brought back to unit norm where asked."""
    bank = make(tmp_path, decaying(), rank=rank, normalise=normalise)
    m = unit(decaying())
    _, _, vt = np.linalg.svd(m - m.mean(0), full_matrices=False)
    expected = (m - m.mean(0)) @ vt[:rank].T @ vt[:rank] + m.mean(0)
    if normalise:
        expected = unit(expected)
    np.testing.assert_allclose(all_rows(bank).numpy(), expected, atol=2e-6)


def test_a_sample_reads_its_own_row(tmp_path: Path) -> None:
    """From what a worker fetched, or straight away; one memory a sample."""
    bank, batch = make(tmp_path, decaying(), rank=5), batch_of(INDEX)
    fetched = torch.from_numpy(bank.fetch(INDEX, np.zeros(4, np.int64)))
    assert fetched.shape == (4, 5) and fetched.dtype == torch.float32
    rows = bank.read(batch, fetched, None)
    assert rows.shape == (4, 1, 12) and rows.dtype == torch.float32
    assert torch.equal(rows, bank.rows(batch.index_B)) and torch.equal(rows, bank.read(batch, None, None))
    assert torch.equal(bank.samples_of(batch.index_B), batch.index_B)


def test_equation_10(tmp_path: Path) -> None:
    """The feature of a stored picture, of any length, gives the stored row again."""
    for rank in (5, 12):
        bank = make(tmp_path / str(rank), decaying(), rank=rank)
        encoded = bank.encode(batch_of(INDEX, 7.0 * decaying()[INDEX]))
        torch.testing.assert_close(encoded, bank.rows(torch.from_numpy(INDEX)), atol=1e-5, rtol=0)
        new = decaying(4, seed=9)
        m, k = unit(decaying()), bank.card.rank
        _, _, vt = np.linalg.svd(m - m.mean(0), full_matrices=False)
        expected = unit((unit(new) - m.mean(0)) @ vt[:k].T @ vt[:k] + m.mean(0))
        np.testing.assert_allclose(bank.encode(batch_of(INDEX, new))[:, 0].numpy(), expected, atol=2e-5)
    with pytest.raises(ValueError, match="'enc' of some sample is zero or not finite"):
        bank.encode(batch_of(INDEX, np.zeros((4, 12))))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("rank", [5, 12])
@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_attend_equals_the_rows_themselves(
    tmp_path: Path, rank: int, normalise: bool, metric: Metric
) -> None:
    """Over reconstructed rows, value and gradient, own samples left out; queries point anywhere."""
    bank = make(tmp_path, decaying(), rank=rank, normalise=normalise)
    q = torch.randn(4, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    hide = Hide(torch.from_numpy(INDEX))
    rows = all_rows(bank).double()
    s = q.double() @ rows.T if metric == "dot" else -(q.double()[:, None] - rows).square().sum(2)
    hidden = torch.from_numpy(INDEX)[:, None] == torch.arange(60)
    expected = (3.0 * s).masked_fill(hidden, -torch.inf).logsumexp(1)
    (gradient,) = torch.autograd.grad(expected.sum(), q)
    lse, count = bank.attend(q, 3.0, hide, metric)
    (found,) = torch.autograd.grad(lse.sum(), q)
    assert count.tolist() == [59.0] * 4
    torch.testing.assert_close(lse, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(bank.attend(q, 3.0, hide, metric).lse_B, lse)


def test_attend_works_on_rank_plus_one_numbers_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on reconstructed rows; what it does not know cannot hide a row."""
    bank = make(tmp_path, decaying(), rank=5)
    seen = []
    real = attending.log_sum_exp

    def watched(q_BE: torch.Tensor, chunks: Iterable[Chunk], *rest: Any) -> Attended:
        chunks = list(chunks)
        seen.extend([q_BE.shape[1], *(chunk.keys_NE.shape[1] for chunk in chunks)])
        return real(q_BE, chunks, *rest)

    monkeypatch.setattr(attending, "log_sum_exp", watched)
    bank.attend(torch.randn(4, 12), 3.0)
    assert set(seen) == {6}
    with pytest.raises(ValueError, match="cannot be hidden by class"):
        bank.attend(torch.randn(4, 12), 3.0, Hide(label_B=torch.zeros(4).long()))


@pytest.mark.parametrize("normalise", [True, False])
def test_nearest(tmp_path: Path, normalise: bool) -> None:
    """By a full product; every row finds itself."""
    bank = make(tmp_path, decaying(), rank=5, normalise=normalise)
    rows = all_rows(bank)
    products, numbers = bank.nearest(rows, 3)
    torch.testing.assert_close(products, (rows @ rows.T).topk(3).values, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close((rows @ rows.T).gather(1, numbers), products, rtol=1e-5, atol=1e-5)
    if normalise:
        torch.testing.assert_close(products[:, 0], torch.ones(60))


def test_choose_is_uniform_and_each_samples_own(tmp_path: Path) -> None:
    """Every row comes up; a sample's choice does not depend on the others drawn with it."""
    bank = make(tmp_path, decaying(), rank=5)
    noise = torch.zeros(6000, 1)
    numbers = bank.choose(Draws(0, torch.arange(6000)), None, noise)
    counts = torch.bincount(numbers, minlength=60)
    assert len(counts) == 60 and int(counts.min()) > 50 and int(counts.max()) < 150
    alone = bank.choose(Draws(0, torch.arange(777, 778)), None, noise[:1])
    assert int(alone) == int(numbers[777])


def test_bf16_coefficients(tmp_path: Path) -> None:
    """Half the bytes, rows within bf16 rounding."""
    full, half = (make(tmp_path / dtype, decaying(), dtype=dtype) for dtype in ("fp32", "bf16"))
    assert full.num_bytes() - half.num_bytes() == 60 * 12 * 2
    assert half.fetch(INDEX, np.zeros(4)).dtype == np.float32
    torch.testing.assert_close(all_rows(half), all_rows(full), atol=2**-8, rtol=0)
    check_memory(half)


def test_it_travels_to_workers(tmp_path: Path) -> None:
    """Pickled without its memory map; a forked process opens the file for itself."""
    bank = make(tmp_path, decaying(), rank=5)
    copy = pickle.loads(pickle.dumps(bank))
    assert copy._opened is None
    np.testing.assert_array_equal(copy.fetch(INDEX, INDEX * 0), bank.fetch(INDEX, INDEX * 0))
    assert len(pickle.dumps(bank)) < 60 * 5 * 4 + 8000
    bank._opened = (os.getpid() + 1, np.zeros((60, 5), np.float32))  # another process's
    np.testing.assert_array_equal(copy.fetch(INDEX, INDEX * 0), bank.fetch(INDEX, INDEX * 0))


def test_fingerprint(tmp_path: Path) -> None:
    """Rows have a hash of their own; another set of features is another identity."""
    one, same, other = (make(tmp_path / str(n), decaying(seed=n % 2), rank=5) for n in (0, 2, 1))
    assert one.fingerprint() == same.fingerprint()
    assert set(one.fingerprint()) == {"identity", "built", "kind", "encoder", "width", "rank"}
    assert all(one.fingerprint()[key] != other.fingerprint()[key] for key in ("identity", "built"))
    assert not one.state()


@pytest.mark.parametrize("number", [-1, 60])
def test_a_number_that_is_no_row(tmp_path: Path, number: int) -> None:
    """Refused in workers and on the device; rows by number name the rows there are."""
    bank = make(tmp_path, decaying(), rank=5)
    with pytest.raises(IndexError, match=f"sample {number}, view 0, has no row in this bank"):
        bank.fetch(np.array([0, number]), np.zeros(2, np.int64))
    for ask in (bank.rows, bank.samples_of, bank.labels_of):
        with pytest.raises(IndexError, match=f"row {number} was asked for, but the bank's rows are 0 to 59"):
            ask(torch.tensor([number]))


def test_a_mirrored_view_has_no_row(tmp_path: Path) -> None:
    """Refused rather than given the plain picture's."""
    with pytest.raises(IndexError, match="sample 59, view 1, has no row"):
        make(tmp_path, decaying(), rank=5).fetch(INDEX, np.array([0, 1, 0, 0]))


def test_damage_is_found_when_it_is_opened(tmp_path: Path) -> None:
    """A file cut short, changed or gone, a card that is none: named, with the way out."""
    config = make(tmp_path, decaying(), rank=5).config
    card = make(tmp_path, decaying(), rank=5).card
    for name, spoil, message in (
        (card.segments[0].file, lambda b: b[:-7], "damaged or missing"),
        (card.segments[0].file, lambda b: b[:4], "damaged or missing"),
        (card.basis_file, lambda b: b[:-1] + bytes([b[-1] ^ 1]), "changed since the bank was built"),
        (card.basis_file, None, "damaged or missing"),
        ("bank.json", lambda b: b[:-9], "no readable card"),
        (
            "bank.json",
            lambda b: b.replace(b'"format": 2', b'"format": 7'),
            "format 7, and this version reads 2",
        ),
    ):
        path = tmp_path / "bank" / name
        content = path.read_bytes()
        path.unlink() if spoil is None else path.write_bytes(spoil(content))
        with pytest.raises(ValueError, match=message) as refusal:
            config.build(FACTS)
        assert str(path) in str(refusal.value)
        path.write_bytes(content)
    assert config.build(FACTS).num_rows == 60


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Without the data set too: when a run is loaded."""
    make(tmp_path, decaying(), rank=5)
    with pytest.raises(ValueError, match="rank of this bank is 5, expected 6"):
        configure(tmp_path, rank=6).build(FACTS)
    with pytest.raises(ValueError, match="width of this bank is 12, expected 16"):
        configure(tmp_path, rank=5).build(attrs.evolve(FACTS, feature_widths={"enc": 16}))
    with pytest.raises(FileNotFoundError, match="no bank here; `genmem bank build RECIPE`"):
        configure(tmp_path / "elsewhere").build(FACTS)


def test_masked_in_training_only(tmp_path: Path) -> None:
    """`draws` are given in training; then the recipe's mask applies, after the norm."""
    bank = make(tmp_path, decaying(), mask="zero", mask_ratio=0.5)
    batch = batch_of(INDEX)
    plain, masked = bank.read(batch, None, None), bank.read(batch, None, Draws(0, batch.index_B))
    assert int((masked == 0).sum()) == 4 * 6 and not (plain == 0).any()
    assert torch.equal(torch.where(masked == 0, plain, masked), plain)
    torch.testing.assert_close(F.normalize(plain, dim=2), plain)
