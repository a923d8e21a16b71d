"""Parameters and forward multiply-adds of a module.

The unit is the MAC: one multiply-add of a matrix product, a convolution or an attention.
1 MAC = 2 FLOPs; what papers on DiT and SiT print as "Gflops" are GMACs. Norms and elementwise
work are no MACs; the elements they write are tallied apart, so that one sees what is not counted.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from genmem.profiling.adapter import FlatModule, iterate_tensors, map_tensors
from genmem.profiling.handles import APART, ELEMENTWISE, WRITTEN, elementwise_handle, product_handles

OWN = "(own)"
"""The child under which the module's own parameters and work are listed."""


@attrs.frozen(kw_only=True)
class Parameters:
    """Numbers of parameters; a shared one counts once, where it comes first."""

    total: int
    trainable: int
    by_child: Mapping[str, int]
    """{top-level child: its parameters}, in order."""

    by_module: Mapping[str, int]
    """{module, by its full name: its parameters}, those of its parts included."""


@attrs.frozen(kw_only=True)
class Macs:
    """MACs of one forward in evaluation, for the batch it was given."""

    total: int
    by_child: Mapping[str, int]
    """{top-level child: its MACs}, in order; they add up to the total."""

    by_module: Mapping[str, int]
    """{module, by its full name: its MACs}, those of its parts included."""

    by_operator: Mapping[str, int]
    elementwise: Mapping[str, int]
    """{operator: elements it wrote}, of every operator that counts no MACs."""

    activations: int
    """Elements that the products wrote: fvcore's activations. They are no measure of memory."""

    cross_check: int | None
    """The same total by torch's own counter on the meta device."""

    cross_check_error: str = ""
    """Why there is none."""

    @property
    def disagreement(self) -> float | None:
        """|total - cross_check| / cross_check; above 0.01 one of the counters missed something."""
        if self.cross_check is None:
            return None
        return abs(self.total - self.cross_check) / max(self.cross_check, 1)


def count_parameters(module: nn.Module) -> Parameters:
    """Parameters in all, those that train, and by module."""
    by_child: Counter[str] = Counter()
    by_module: Counter[str] = Counter()
    for name, parameter in module.named_parameters():
        by_child[name.partition(".")[0] if "." in name else OWN] += parameter.numel()
        parts = name.split(".")[:-1]
        by_module.update({".".join(parts[:end]): parameter.numel() for end in range(1, len(parts) + 1)})
    trainable = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return Parameters(
        total=by_child.total(), trainable=trainable, by_child=dict(by_child), by_module=dict(by_module)
    )


def count_macs(module: nn.Module, inputs: tuple[Any, ...]) -> Macs:
    """MACs of `module(*inputs)`.

    Args:
        module: The network, eager and with real weights: it is traced, in evaluation.
        inputs: Its positional arguments: tensors, None, tuples and NamedTuples of them.

    Raises:
        ValueError: A compiled module, or one on the meta device.
    """
    _refuse_untraceable(module)
    with _evaluating(module), torch.no_grad():
        counts = _trace(module, inputs)
        check, error = _cross_check(module, inputs)
    whole = counts[""]
    total = sum(_macs(whole).values())
    by_module = {
        name: sum(_macs(counts.get(f"module.{name}", Counter())).values())
        for name, _ in module.named_modules()
        if name
    }
    by_child = {name: by_module[name] for name, _ in module.named_children()}
    by_child[OWN] = total - sum(by_child.values())
    beside = {name.removeprefix(APART): round(size) for name, size in whole.items() if name.startswith(APART)}
    return Macs(
        total=total,
        by_child=by_child,
        by_module=by_module,
        by_operator=_macs(whole),
        activations=beside.pop(WRITTEN, 0),
        elementwise={name: size for name, size in beside.items() if size},
        cross_check=check,
        cross_check_error=error,
    )


def _macs(count: Counter[str]) -> dict[str, int]:
    return {name: round(macs) for name, macs in count.items() if macs and not name.startswith(APART)}


def _trace(module: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Counter[str]]:
    """{module name, "module." before it: {operator: MACs, or elements under `APART`}}."""
    with warnings.catch_warnings():
        # fvcore uses torch.jit, which says so as it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(FlatModule(module, inputs), tuple(iterate_tensors(inputs)))
    analysis.tracer_warnings("none").uncalled_modules_warnings(False).unsupported_ops_warnings(False)
    analysis.set_op_handle(**product_handles())
    analysis.set_op_handle(**{f"aten::{name}": elementwise_handle(name) for name in ELEMENTWISE})
    counts: dict[str, Counter[str]] = analysis.by_module_and_operator()
    unknown = analysis.unsupported_ops()
    if not unknown:
        return counts
    # The first trace told which operators no handle knows, a second one tells how large they are.
    analysis.set_op_handle(**{name: elementwise_handle(name.removeprefix("aten::")) for name in unknown})
    again: dict[str, Counter[str]] = analysis.by_module_and_operator()
    return again


def _cross_check(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[int | None, str]:
    """MACs by torch's counter, or why it could not count.

    On meta, because on a CPU it counts a fused attention as nothing.
    """
    try:
        tensors = (*module.named_parameters(), *module.named_buffers())
        shadow = {name: tensor.to("meta") for name, tensor in tensors}
        with FlopCounterMode(display=False) as counter:
            functional_call(module, shadow, map_tensors(inputs, lambda tensor: tensor.to("meta")))
    except Exception as error:  # A foreign forward may fail on meta in any way.
        return None, f"{type(error).__name__}: {error}"
    return counter.get_total_flops() // 2, ""


def _refuse_untraceable(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None:
            raise ValueError(f"{name or 'the module'} is compiled: count an eager copy")
    if any(parameter.is_meta for parameter in module.parameters()):
        raise ValueError("the module is on the meta device: fvcore traces real tensors only")


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no fused transformer layer, whose parts no counter sees."""
    training = {part for part in module.modules() if part.training}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    module.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for part in module.modules():
            part.training = part in training
