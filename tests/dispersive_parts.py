"""The dispersive losses by their definitions, entry by entry, and steps of a toy network to run ours on."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from genmem.contracts import Conditioning, Facts, Prediction
from genmem.draws import Draws
from genmem.testing.objective import StraightPath
from genmem_dispersive import DispersiveConfig

FORMS = ("infonce-l2", "infonce-cos", "hinge", "covariance")
FACTS = Facts(sample_shape=(1, 8, 8), output_channels=1, tap_widths=dict.fromkeys(range(1, 13), 5))


def define(form: str, z: Tensor, p: Tensor | None = None, tau: float = 0.5, margin: float = 1.0) -> Tensor:
    """The loss of one group z (N, …), or its twin with second views p (N, …), in float64."""
    z = z.double().flatten(1)
    p = None if p is None else p.double().flatten(1)
    if form == "covariance":
        return covariance(z) if p is None else barlow(z, p)
    count = range(len(z))
    among = [[differ(form, z[i], z[j]) for j in count] for i in count]
    if form == "hinge":
        pairs = [(margin - among[i][j]).clamp(min=0) ** 2 for i in count for j in count if i != j]
        pull = [] if p is None else [differ(form, z[i], p[i]) ** 2 for i in count]
        return sum(pairs) / len(pairs) + (sum(pull) / len(pull) if pull else 0)
    if p is None:
        return (sum((-among[i][j] / tau).exp() for i in count for j in count) / len(z) ** 2).log()
    return sum(
        differ(form, z[i], p[i]) / tau + (sum((-among[i][j] / tau).exp() for j in count) / len(z)).log()
        for i in count
    ) / len(z)


def differ(form: str, a: Tensor, b: Tensor) -> Tensor:
    """D of two states."""
    if form == "infonce-cos":
        return -(a @ b) / (a.norm() * b.norm())
    return (a - b).square().mean()


def correlation(z: Tensor, p: Tensor) -> Tensor:
    """(M, M): between dimension m of z and n of p."""
    joint = torch.cov(torch.cat([z, p], 1).T)
    std = joint.diagonal().sqrt()
    return (joint / torch.outer(std, std))[: z.shape[1], z.shape[1] :]


def covariance(z: Tensor) -> Tensor:
    """The mean of all M² squared correlations."""
    return correlation(z, z).square().mean()


def barlow(z: Tensor, p: Tensor, off: float = 5e-3) -> Tensor:
    """Squared differences from the identity, those off the diagonal weighted; the weighted mean."""
    found, one = correlation(z, p), torch.eye(z.shape[1], dtype=torch.float64)
    weight = one + off * (1 - one)
    return (weight * (found - one).square()).sum() / weight.sum()


def states(batch: int = 16, scale: float = 1.0, seed: int = 0, tokens: int = 4, width: int = 5) -> Tensor:
    """(B, L, D) normal numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, tokens, width, generator=generator, dtype=torch.float64)


def dispersive(**options: object) -> DispersiveConfig:
    """Settings with a tap."""
    return DispersiveConfig(**({"tap": 3} | options))


def run(config: DispersiveConfig, z: Tensor, p: Tensor | None = None, facts: Facts = FACTS):
    """The objective on given states, with `p` as what a second forward would see."""
    (tap,) = config.taps(12)
    step = toy_step(Draws(0, torch.arange(len(z))))
    step.prediction = Prediction(torch.empty(0), {tap: z})
    step.again = lambda *_, **__: Prediction(torch.empty(0), {tap: p})
    return config.build(facts)(step)


class Toy:
    """A linear network of two blocks in float64: hidden states of three tokens, five wide."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        shape = (2, 12, 15)
        self.weight = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        self.calls: list[SimpleNamespace] = []

    def __call__(
        self,
        x_t: Tensor,
        t: Tensor,
        cond: Conditioning,
        *,
        taps: tuple[int, ...] = (),
        until: int | None = None,
    ) -> Prediction:
        """Hidden states at `taps`; what it was asked is kept in `calls`."""
        self.calls.append(SimpleNamespace(x_t=x_t, t=t, cond=cond, taps=taps, until=until))
        time = t.double().view(len(t), -1).mean(1, keepdim=True)
        rows = x_t.double().flatten(1) + time
        return Prediction(torch.empty(0), {tap: (rows @ self.weight[tap - 1]).view(-1, 3, 5) for tap in taps})


def toy_step(draws: Draws, network: Toy | None = None, interpolant=None, taps=(1,)) -> SimpleNamespace:
    """A step of `network` on made-up pictures of these rows."""
    network, path = network or Toy(), interpolant or StraightPath()
    x, noise = draws.normal("x", (3, 2, 2)), draws.normal("noise", (3, 2, 2))
    times, cond = path.times(draws), Conditioning(label_B=draws.integers("label", 3))
    x_t = path.mix(x, noise, times.t)
    prediction = network(x_t, times.t, cond._replace(span_B=times.span_B), taps=taps)
    return SimpleNamespace(
        x=x,
        noise=noise,
        times=times,
        x_t=x_t,
        cond=cond,
        prediction=prediction,
        draws=draws,
        interpolant=path,
        again=network,
    )
