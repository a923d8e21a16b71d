"""What fvcore is told of every operator: the products it counts, and what is tallied beside them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

Handle = Callable[[list[Any], list[Any]], Any]

APART = "apart "
"""Prefix of what is tallied beside the MACs: elements that elementwise operators write."""

WRITTEN = "written by products"
"""Elements that products write: what fvcore calls activations."""

ELEMENTWISE = (
    *("adaptive_avg_pool2d", "batch_norm", "grid_sampler", "group_norm", "instance_norm", "layer_norm"),
    *("upsample_bilinear2d", "add", "sub", "mul", "div", "rsub", "neg", "add_", "sub_", "mul_", "pow", "exp"),
    *(
        "cos",
        "sin",
        "sqrt",
        "rsqrt",
        "square",
        "mean",
        "sum",
        "softmax",
        "gelu",
        "silu",
        "embedding",
        "where",
    ),
    *("round", "clamp", "rms_norm"),
)
"""Operators that count no MACs. Of the first fvcore would count some number of operations an element;
the others are named so that one trace is enough, and any that are missing take a second one."""


def product_handles() -> dict[str, Handle]:
    """{operator: its handle} of every product."""
    from fvcore.nn import jit_handles as fvcore

    counts = {
        "aten::addmm": fvcore.addmm_flop_jit,
        "aten::bmm": fvcore.bmm_flop_jit,
        "aten::_convolution": fvcore.conv_flop_jit,
        "aten::dot": fvcore.matmul_flop_jit,
        "aten::linear": fvcore.linear_flop_jit,
        "aten::matmul": fvcore.matmul_flop_jit,
        "aten::mm": fvcore.matmul_flop_jit,
        "aten::mv": fvcore.matmul_flop_jit,
        "aten::baddbmm": _batched_product,
        "aten::einsum": _einsum,
        "aten::scaled_dot_product_attention": _attention,
    }
    return {name: _with_written(name.removeprefix("aten::"), count) for name, count in counts.items()}


def elementwise_handle(name: str) -> Handle:
    """A handle that tallies the elements an operator writes, apart from the MACs."""

    def count(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        return Counter({APART + name: sum(math.prod(_shape(part)) for part in outputs)})

    return count


def _with_written(name: str, count: Handle) -> Handle:
    """The count, and the elements the operator writes; a count of 0 is no product."""

    def counted(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        found = count(inputs, outputs)
        macs: Counter[str] = found if isinstance(found, Counter) else Counter({name: found})
        if macs.total():
            macs[APART + WRITTEN] = math.prod(_shape(outputs[0]))
        return macs

    return counted


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
