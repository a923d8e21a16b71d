"""A look inside a training step: how large hidden states are, how hard objectives pull on them.

Shapes: B batch, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from genmem.contracts import Prediction


def hidden_rms(prediction: Prediction) -> dict[str, Tensor]:
    """{"rms/block/k": root mean square of the hidden state after k blocks}."""
    return {
        f"rms/block/{tap}": hidden_BLD.detach().float().square().mean().sqrt()
        for tap, hidden_BLD in prediction.hidden.items()
    }


def gradient_ratios(
    prediction: Prediction, denoise: Tensor, terms: Mapping[str, Tensor], taps: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """{"objective/NAME/gradient_ratio": ‖∂(weight · value)/∂h‖ / ‖∂denoise/∂h‖}.

    h are the hidden states the objective taps, or the network's output where it taps none. Nothing
    is added to a parameter's gradient. Left out where one of the two does not depend on h.

    Args:
        prediction: Of the denoising forward.
        denoise: The denoising loss.
        terms: {objective: weight · value}.
        taps: {objective: its taps}.
    """
    tapped = {name: [prediction.hidden[tap] for tap in taps[name]] or [prediction.output] for name in terms}
    seen = list({id(state): state for states in tapped.values() for state in states}.values())
    # One backward for all of them: it is the long one.
    main = {id(state): gradient for state, gradient in zip(seen, _gradients(denoise, seen), strict=True)}
    ratios = {}
    for name, term in terms.items():
        own = _norm(_gradients(term, tapped[name]))
        whole = _norm([main[id(state)] for state in tapped[name]])
        if own is not None and whole is not None:
            ratios[f"objective/{name}/gradient_ratio"] = own / whole
    return ratios


def _gradients(value: Tensor, seen: list[Tensor]) -> list[Tensor | None]:
    if not value.requires_grad or not seen:
        return [None] * len(seen)
    return list(torch.autograd.grad(value, seen, retain_graph=True, allow_unused=True))


def _norm(gradients: list[Tensor | None]) -> Tensor | None:
    found = [gradient.float().norm() for gradient in gradients if gradient is not None]
    return torch.stack(found).norm() if found else None
