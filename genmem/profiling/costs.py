"""Parameters and forward multiply-adds of a module.

The unit is the MAC: one multiply-add of a matrix product, a convolution or an attention.
1 MAC = 2 FLOPs; what papers on DiT and SiT print as "Gflops" are GMACs. Norms and elementwise
work are no MACs; the elements they write are tallied apart, so that one sees what is not counted.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from genmem.profiling.adapter import FlatModule, iterate_tensors, map_tensors

OWN = "(own)"
"""The child under which the module's own parameters and work are listed."""

_APART = "apart "
"""Prefix of what is tallied beside the MACs."""


@attrs.frozen(kw_only=True)
class Parameters:
    """Numbers of parameters; a shared one counts once, where it comes first."""

    total: int
    trainable: int
    by_child: Mapping[str, int]
    """{top-level child: its parameters}, in order."""


@attrs.frozen(kw_only=True)
class Macs:
    """MACs of one forward in evaluation, for the batch it was given."""

    total: int
    by_child: Mapping[str, int]
    """{top-level child: its MACs}, in order; they add up to the total."""

    by_operator: Mapping[str, int]
    elementwise: Mapping[str, int]
    """{operator: elements it wrote}, of every operator that counts no MACs."""

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
    """Parameters in all, those that train, and by top-level child."""
    by_child: Counter[str] = Counter()
    for name, parameter in module.named_parameters():
        by_child[name.partition(".")[0] if "." in name else OWN] += parameter.numel()
    trainable = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return Parameters(total=by_child.total(), trainable=trainable, by_child=dict(by_child))


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
    total = sum(_macs(counts[""]).values())
    by_child = {
        name: sum(_macs(counts.get(f"module.{name}", Counter())).values())
        for name, _ in module.named_children()
    }
    by_child[OWN] = total - sum(by_child.values())
    return Macs(
        total=total,
        by_child=by_child,
        by_operator=_macs(counts[""]),
        elementwise={
            name.removeprefix(_APART): round(size)
            for name, size in counts[""].items()
            if name.startswith(_APART) and size
        },
        cross_check=check,
        cross_check_error=error,
    )


def _macs(count: Counter[str]) -> dict[str, int]:
    return {name: round(macs) for name, macs in count.items() if macs and not name.startswith(_APART)}


def _trace(module: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Counter[str]]:
    """{module name, "module." before it: {operator: MACs, or elements under `_APART`}}."""
    with warnings.catch_warnings():
        # fvcore uses torch.jit, which says so as it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(FlatModule(module, inputs), tuple(iterate_tensors(inputs)))
    analysis.tracer_warnings("none").uncalled_modules_warnings(False).unsupported_ops_warnings(False)
    analysis.set_op_handle(**_PRODUCTS)
    analysis.set_op_handle(**{f"aten::{name}": _elements_of(name) for name in _ELEMENTWISE})
    # A first trace tells which operators no handle knows, a second one how large they are.
    analysis.total()
    unknown = analysis.unsupported_ops()
    analysis.set_op_handle(**{name: _elements_of(name.removeprefix("aten::")) for name in unknown})
    counts: dict[str, Counter[str]] = analysis.by_module_and_operator()
    return counts


_ELEMENTWISE = (
    "adaptive_avg_pool2d",
    "batch_norm",
    "grid_sampler",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "upsample_bilinear2d",
)
"""Operators that fvcore counts as some number of operations an element."""


def _shape(value: Any) -> list[int]:
    """Of a value in a traced graph; (0,) for what is no tensor."""
    return list(value.type().sizes()) if value.isCompleteTensor() else [0]


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """q kᵀ and its product with v: (…, N, E), (…, M, E), (…, M, F) -> N·M·(E + F) for each head."""
    query, key, value = (_shape(part) for part in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _batched_product(inputs: list[Any], outputs: list[Any]) -> int:
    """(B, N, E) times (B, E, M)."""
    left, right = (_shape(part) for part in inputs[1:3])
    return math.prod(left) * right[-1]


def _einsum(inputs: list[Any], outputs: list[Any]) -> int:
    """The product of all index sizes, where two operands are summed over an index; else no MAC.

    What is spelt otherwise is left to fvcore, which reads the count from rounded text.
    """
    equation = inputs[0].toIValue().replace(" ", "")
    left, arrow, kept = equation.partition("->")
    terms = left.split(",")
    if len(terms) > 2 or not arrow or "." in equation:
        from fvcore.nn.jit_handles import einsum_flop_jit

        macs: float = einsum_flop_jit(inputs, outputs)
        return round(macs)
    shapes = [_shape(part) for part in inputs[1].node().inputs()]
    sizes = dict(
        pair for term, shape in zip(terms, shapes, strict=True) for pair in zip(term, shape, strict=True)
    )
    summed = len(terms) == 2 and not set(sizes) <= set(kept)
    return math.prod(sizes.values()) if summed else 0


_PRODUCTS = {
    "aten::baddbmm": _batched_product,
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _attention,
}
"""Operators that fvcore has no handle for, or a rough one."""


def _elements_of(name: str) -> Any:
    """A handle that tallies the elements an operator writes, apart from the MACs."""

    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        return Counter({_APART + name: sum(math.prod(_shape(part)) for part in outputs)})

    return count


def _cross_check(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[int | None, str]:
    """MACs by torch's counter, or why it could not count.

    On meta, because on a CPU it counts a fused attention as nothing.
    """
    try:
        shadow = copy.deepcopy(module).to("meta")
        with FlopCounterMode(display=False) as counter:
            shadow(*map_tensors(inputs, lambda tensor: tensor.to("meta")))
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
