"""The network of the family: SiT (arXiv 2401.08740), DiT (2212.09748), LightningDiT (2501.01423).

Shapes: B batch, C H W sample, L tokens, D width, J conditions a sample (1, or L for token
times), K memories a sample, E memory width. Time: t = 0 is data, t = 1 is noise. Module names
are those of the published weights, so their keys load as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genmem.contracts import Conditioning, Facts, Prediction
from genmem_dit.blocks import Block, FinalLayer, join_patches
from genmem_dit.counting import count_output_channels, divide_into_patches
from genmem_dit.embeddings import LabelEmbedder, MemoryProjection, PatchEmbedder, TimestepEmbedder
from genmem_dit.initialisation import initialise
from genmem_dit.rotary import RotaryPositions, Rotation

if TYPE_CHECKING:
    from genmem_dit.configs import TransformerConfig


class Transformer(nn.Module):
    """A transformer on patches; time, label and memory reach it through adaLN.

    Label and memory take part where the facts give them a size: no classes, no table; no
    memory width, no projection.
    """

    def __init__(self, config: TransformerConfig, facts: Facts) -> None:
        """The network of these settings for these facts.

        Raises:
            ValueError: The patch does not divide the sample.
        """
        super().__init__()
        depth, width, heads = config.shape
        self.config = config
        self.sample_shape = facts.sample_shape
        self.grid = divide_into_patches(facts.sample_shape, config.patch)
        self.output_channels = facts.output_channels
        self.velocity = facts.predicts_velocity
        channels = count_output_channels(config, facts)

        # The order of construction is part of the seeded start: every layer draws when it is made.
        self.x_embedder = PatchEmbedder(facts.sample_shape[0], config.patch, width)
        self.t_embedder = TimestepEmbedder(width, config.time_scale, config.whole_times)
        self.span_embedder = (
            TimestepEmbedder(width, config.time_scale, config.whole_times) if config.span else None
        )
        self.y_embedder = LabelEmbedder(facts.num_classes, width) if facts.num_classes else None
        self.condition_projection = (
            MemoryProjection(facts.condition_width, width, config.memory_projection)
            if facts.condition_width
            else None
        )
        table = torch.zeros(1, self.grid[0] * self.grid[1], width)
        self.pos_embed = nn.Parameter(table, requires_grad=False)
        self.feat_rope = RotaryPositions(self.grid, width // heads) if config.form.rope else None
        self.blocks = nn.ModuleList(Block(width, heads, config.form) for _ in range(depth))
        self.final_layer = FinalLayer(width, config.patch**2 * channels, config.form)
        self.initialise()

    def initialise(self) -> None:
        """Start anew, from torch's default generator; also what fills a network made on `meta`."""
        initialise(self, self.config.table_std, zero_gates=self.config.init == "adaln-zero")

    @property
    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks, first to last."""
        return tuple(f"blocks.{i}" for i in range(len(self.blocks)))

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        cond: Conditioning,
        /,
        *,
        taps: tuple[int, ...] = (),
        until: int | None = None,
    ) -> Prediction:
        """Predict from `x_t` (B, C, H, W) at `t` (B,) or (B, L).

        Args:
            x_t: Noisy sample.
            t: Time, or one time a token, row-major.
            cond: Label and memory exactly where the network was built for them. An absent span
                is 0: the average velocity over no time is the velocity.
            taps: Block counts whose hidden state is wanted.
            until: Stop after this many blocks, before the last layer.

        Raises:
            ValueError: Another sample shape, other conditions than it was built for, or a tap
                that is not passed.
        """
        stop = len(self.blocks) if until is None else until
        self._check(x_t, t, cond, taps, stop)
        c_BJD = self.condition(t if self.config.weights_time == "data0" else 1 - t, cond)
        rotation = None if self.feat_rope is None else self.feat_rope()
        h_BLD = self.x_embedder(x_t) + self.pos_embed
        hidden: dict[int, Tensor] = {}
        for k, block in enumerate(self.blocks, 1):
            if k > stop:
                break
            h_BLD = self._run(block, h_BLD, c_BJD, rotation)
            if k in taps:
                hidden[k] = h_BLD
        if until is not None:
            return Prediction(h_BLD.new_empty(0), hidden)
        patches = self.final_layer(h_BLD, c_BJD)
        output = join_patches(patches, self.grid, self.config.patch)[:, : self.output_channels]
        return Prediction(self._turn_back(output), hidden)

    def condition(self, t: Tensor, cond: Conditioning) -> Tensor:
        """(B, J, D): the sum of what is known of time (the weights' own), span, label and memory."""
        c_BJD: Tensor = self.t_embedder(t if t.ndim == 2 else t[:, None])
        if self.span_embedder is not None:
            span_B = c_BJD.new_zeros(len(t)) if cond.span_B is None else cond.span_B
            c_BJD = c_BJD + self.span_embedder(span_B[:, None])
        if self.y_embedder is not None:
            c_BJD = c_BJD + self.y_embedder(cond.label_B, cond.drop_B)[:, None]
        if self.condition_projection is not None:
            c_BJD = c_BJD + self.condition_projection(cond.memory_BKE, cond.drop_B)[:, None]
        return c_BJD

    def _turn_back(self, output: Tensor) -> Tensor:
        """From the weights' direction of time to ours: dx/d(1 - t) = -dx/dt; all else stays."""
        if self.config.weights_time == "data0" or not self.velocity:
            return output
        channels = self.sample_shape[0]
        return torch.cat([-output[:, :channels], output[:, channels:]], 1)

    def _run(self, block: nn.Module, h_BLD: Tensor, c_BJD: Tensor, rotation: Rotation | None) -> Tensor:
        if self.config.checkpoint and torch.is_grad_enabled():
            # Nothing in a block is random, so there is no generator state to keep.
            out: Tensor = checkpoint(
                block, h_BLD, c_BJD, rotation, use_reentrant=False, preserve_rng_state=False
            )
        else:
            out = block(h_BLD, c_BJD, rotation)
        return out

    def _check(self, x_t: Tensor, t: Tensor, cond: Conditioning, taps: tuple[int, ...], stop: int) -> None:
        if tuple(x_t.shape[1:]) != self.sample_shape:
            raise ValueError(f"built for samples of shape {self.sample_shape}, got {tuple(x_t.shape[1:])}")
        tokens = self.grid[0] * self.grid[1]
        if t.ndim not in (1, 2) or (t.ndim == 2 and t.shape[1] != tokens):
            raise ValueError(f"t must be (B,) or (B, {tokens}), got {tuple(t.shape)}")
        if not 1 <= stop <= len(self.blocks) or any(not 1 <= tap <= stop for tap in taps):
            raise ValueError(f"taps {taps}, until {stop}: there are blocks 1 … {len(self.blocks)}")
        if cond.span_B is not None and self.span_embedder is None:
            raise ValueError("a span was given, but the network has no second time: set span = true")
        for name, part, given in (
            ("label_B", self.y_embedder, cond.label_B),
            ("memory_BKE", self.condition_projection, cond.memory_BKE),
        ):
            if (part is None) != (given is None):
                built, got = ("with", "is missing") if part is not None else ("without", "was given")
                raise ValueError(f"the network was built {built} this condition, but {name} {got}")
