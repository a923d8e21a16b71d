"""The backbones against an independent float64 form: one sample at a time, from the papers."""

import math

import pytest
import torch
from torch import Tensor, nn

from genmem.contracts import Conditioning, Facts
from genmem_dit import DitConfig, LightningDitConfig, SitConfig, TransformerConfig

DEPTH, WIDTH, HEADS, PATCH = 3, 16, 2, 2
FACTS = Facts(sample_shape=(3, 4, 6), output_channels=3, num_classes=5, condition_width=7)
CELLS = [(row, column) for row in range(0, 4, PATCH) for column in range(0, 6, PATCH)]


def build(config: type[TransformerConfig], **options: object) -> nn.Module:
    """A tiny network none of whose parameters is 0."""
    torch.manual_seed(1)
    shape = {"depth": DEPTH, "width": WIDTH, "heads": HEADS, "patch": PATCH}
    net = config(**shape, init="xavier", **options).build(FACTS).double()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 1:
                parameter.normal_(std=0.1)
    return net


def silu(value: Tensor) -> Tensor:
    return value / (1 + torch.exp(-value))


def gelu(value: Tensor) -> Tensor:
    return 0.5 * value * (1 + torch.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)))


def normalise(h: Tensor, eps: float = 1e-6) -> Tensor:
    centred = h - h.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def turn(h: Tensor) -> Tensor:
    """Pairs of channels as complex numbers: the first half turned by row, the second by column."""
    pairs = torch.view_as_complex(h.reshape(len(h), -1, 2))
    half = pairs.shape[1] // 2
    frequency = torch.tensor([10000 ** (-i / half) for i in range(half)], dtype=torch.float64)
    angles = [torch.cat([r / PATCH * frequency, c / PATCH * frequency]) for r, c in CELLS]
    turned = pairs * torch.polar(torch.ones_like(torch.stack(angles)), torch.stack(angles))
    return torch.view_as_real(turned).flatten(1)


class PlainForm:
    """The forward pass of one sample, with the weights looked up by their published names."""

    def __init__(self, state: dict[str, Tensor], time_scale: float) -> None:
        self.state = state
        self.time_scale = time_scale

    def linear(self, name: str, value: Tensor) -> Tensor:
        return value @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def embed_time(self, name: str, t: Tensor) -> Tensor:
        phase = [self.time_scale * t * 10000 ** (-i / 128) for i in range(128)]
        feature = torch.stack([p.cos() for p in phase] + [p.sin() for p in phase], -1)
        return self.linear(f"{name}.mlp.2", silu(self.linear(f"{name}.mlp.0", feature)))

    def project_memory(self, memory: Tensor) -> Tensor:
        name = "condition_projection"
        if f"{name}.linear.weight" in self.state:
            return self.linear(f"{name}.linear", memory)
        first = silu(self.linear(f"{name}.mlp.0", memory))
        return self.linear(f"{name}.mlp.4", silu(self.linear(f"{name}.mlp.2", first)))

    def condition(self, t: Tensor, cond: Conditioning) -> Tensor:
        dropped = bool(cond.drop_B)
        row = self.state["y_embedder.embedding_table.weight"][-1 if dropped else int(cond.label_B)]
        rows = [self.project_memory(0 * memory if dropped else memory) for memory in cond.memory_BKE]
        c = self.embed_time("t_embedder", t) + row + sum(rows) / len(rows)
        return c if cond.span_B is None else c + self.embed_time("span_embedder", cond.span_B)

    def modulation(self, name: str, c: Tensor) -> tuple[Tensor, ...]:
        return self.linear(f"{name}.adaLN_modulation.1", silu(c)).split(WIDTH, -1)

    def norm(self, name: str, h: Tensor) -> Tensor:
        """RMSNorm or LayerNorm with weights, where there are weights; else LayerNorm."""
        weight, bias = (self.state.get(f"{name}.{part}") for part in ("weight", "bias"))
        if weight is None:
            return normalise(h)
        if bias is not None:
            return normalise(h, 1e-5) * weight + bias
        return h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    def attend(self, name: str, h: Tensor) -> Tensor:
        qkv, size = self.linear(f"{name}.qkv", h), WIDTH // HEADS
        mixed = []
        for start in range(0, WIDTH, size):
            q, k, v = (qkv[:, part * WIDTH + start :][:, :size] for part in range(3))
            if f"{name}.q_norm.weight" in self.state:
                q, k = self.norm(f"{name}.q_norm", q), self.norm(f"{name}.k_norm", k)
            if "feat_rope.freqs_cos" in self.state:
                q, k = turn(q), turn(k)
            mixed.append(torch.softmax(q @ k.T / math.sqrt(size), -1) @ v)
        return self.linear(f"{name}.proj", torch.cat(mixed, 1))

    def block(self, name: str, h: Tensor, c: Tensor) -> Tensor:
        parts = list(self.modulation(name, c))
        if len(parts) == 4:  # without shift
            parts = [0 * c, *parts[:2], 0 * c, *parts[2:]]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
        h = h + gate_a * self.attend(f"{name}.attn", self.norm(f"{name}.norm1", h) * (1 + scale_a) + shift_a)
        return h + gate_m * self.mlp(f"{name}.mlp", self.norm(f"{name}.norm2", h) * (1 + scale_m) + shift_m)

    def mlp(self, name: str, h: Tensor) -> Tensor:
        if f"{name}.fc1.weight" in self.state:
            return self.linear(f"{name}.fc2", gelu(self.linear(f"{name}.fc1", h)))
        both = self.linear(f"{name}.w12", h)
        middle = both.shape[1] // 2
        return self.linear(f"{name}.w3", silu(both[:, :middle]) * both[:, middle:])

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        kernel = self.state["x_embedder.proj.weight"].flatten(1)
        patches = torch.stack([x[:, r : r + PATCH, c : c + PATCH].flatten() for r, c in CELLS])
        h = patches @ kernel.T + self.state["x_embedder.proj.bias"] + self.state["pos_embed"][0]
        c = self.condition(t, cond)
        for i in range(DEPTH):
            h = self.block(f"blocks.{i}", h, c)
        shift, scale = self.modulation("final_layer", c)
        tokens = self.linear(
            "final_layer.linear", self.norm("final_layer.norm_final", h) * (1 + scale) + shift
        )
        output = torch.zeros_like(x)
        for token, (r, col) in zip(tokens, CELLS, strict=True):
            cell = token.view(PATCH, PATCH, -1).permute(2, 0, 1)
            output[:, r : r + PATCH, col : col + PATCH] = cell[: len(x)]
        return output


CASES: list[tuple[type[TransformerConfig], dict[str, object]]] = [
    (SitConfig, {}),
    (SitConfig, {"attention": "math"}),
    (SitConfig, {"memory_projection": "mlp"}),
    (SitConfig, {"learn_sigma": True}),
    (SitConfig, {"span": True, "time_scale": 100.0}),
    (SitConfig, {"qk_norm": True}),
    (DitConfig, {"whole_times": False}),
    (DitConfig, {"whole_times": False, "span": True}),
    (LightningDitConfig, {}),
    (LightningDitConfig, {"qk_norm": True, "attention": "math"}),
    (LightningDitConfig, {"norm": "layer"}),
    (LightningDitConfig, {"norm": "layer", "qk_norm": True, "span": True}),
    (LightningDitConfig, {"mlp": "gelu"}),
    (LightningDitConfig, {"rope": False}),
    (LightningDitConfig, {"shift": False}),
]


@pytest.mark.parametrize(
    ("config", "options"), CASES, ids=lambda value: str(getattr(value, "__name__", value))
)
@pytest.mark.parametrize("token_times", [False, True])
@torch.no_grad()
def test_forward_equals_plain_form(
    config: type[TransformerConfig], options: dict[str, object], token_times: bool
) -> None:
    net = build(config, **options)
    x = torch.randn(4, 3, 4, 6, dtype=torch.float64)
    t = torch.rand(4, len(CELLS), dtype=torch.float64) if token_times else torch.rand(4, dtype=torch.float64)
    cond = Conditioning(
        label_B=torch.tensor([0, 1, 4, 2]),
        memory_BKE=torch.randn(4, 2, 7, dtype=torch.float64),
        drop_B=torch.tensor([False, True, False, False]),
        span_B=torch.rand(4, dtype=torch.float64) if options.get("span") else None,
    )
    output = net(x, t, cond).output
    plain = PlainForm(net.state_dict(), net.config.time_scale)
    for i in range(4):
        row = Conditioning(*[None if part is None else part[i] for part in cond])
        # Rotary tables are kept in fp32, as in the published weights.
        rounding = 1e-5 if net.config.form.rope else 1e-10
        torch.testing.assert_close(output[i], plain(x[i], t[i], row), atol=rounding / 10, rtol=rounding)
