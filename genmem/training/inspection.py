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
    ratios = {}
    for name, term in terms.items():
        seen = [prediction.hidden[tap] for tap in taps[name]] or [prediction.output]
        own, main = _norm(term, seen), _norm(denoise, seen)
        if own is not None and main is not None:
            ratios[f"objective/{name}/gradient_ratio"] = own / main
    return ratios


def _norm(value: Tensor, seen: list[Tensor]) -> Tensor | None:
    if not value.requires_grad:
        return None
    gradients = torch.autograd.grad(value, seen, retain_graph=True, allow_unused=True)
    found = [gradient.float().norm() for gradient in gradients if gradient is not None]
    return torch.stack(found).norm() if found else None
