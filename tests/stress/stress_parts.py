"""The heavy halves of `stress.py`.

Shapes: B batch, C H W sample, L tokens, D width, E memory width, N rows.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from genmem import collectives
from genmem.attention import Chunk, log_sum_exp
from genmem.contracts import Coefficients, Hide, MemoryStore, Objective, Prediction, Regression, Tags, Times
from genmem.paths import AffinePath, spread


class AverageVelocity(AffinePath):
    def coefficients(self, t, /):
        return Coefficients(1 - t, t, -torch.ones_like(t), torch.ones_like(t))

    def times(self, draws):
        pair = draws.uniform("time", (2,))
        t, r = pair.max(1).values, pair.min(1).values
        return Times(t, torch.where(draws.uniform("same") < 0.5, torch.zeros_like(t), t - r))

    def regress(self, predict, x, noise, times, cond, /):
        """u = v - (t - r) du/dt, du/dt along (v, 0, 1) for (z, r, t) (MeanFlow, eq. 6)."""
        x_t, v = self.mix(x, noise, times.t), self.target(x, noise, times.t)

        def average(z, t, span):
            prediction = predict(z, t, cond._replace(span_B=span))
            return prediction.output, prediction

        ones = torch.ones_like(times.t)
        output, slope, prediction = torch.func.jvp(
            average, (x_t, times.t, times.span_B), (v, ones, ones), has_aux=True
        )
        target = (v - spread(times.span_B, x) * slope).detach()
        return Regression(x_t, target, (output - target).square().flatten(1).mean(1), prediction)


class LearnedVariance(AffinePath):
    def coefficients(self, t, /):
        return Coefficients(1 - t, t, -torch.ones_like(t), torch.ones_like(t))

    def fields(self, output, x_t, t, /):
        mean, raw = output.chunk(2, 1)
        fields = super().fields(mean, x_t, t)
        fields.variance = raw.exp()
        return fields

    def regress(self, predict, x, noise, times, cond, /):
        x_t, target = self.mix(x, noise, times.t), self.target(x, noise, times.t)
        prediction = predict(x_t, times.t, cond)
        mean, raw = prediction.output.chunk(2, 1)
        error = (mean - target).square()
        likelihood = 0.5 * (raw + error.detach() / raw.exp())
        return Regression(x_t, target, (error + likelihood).flatten(1).mean(1), prediction)


class Sharded(MemoryStore):
    abilities = frozenset({"attend", "write"})

    def __init__(self, rows, width):
        self.capacity, self._width = rows, width
        self.rows_NE = torch.zeros(0, width)
        self.ids_N = torch.zeros(0, dtype=torch.int64)
        self.total = torch.zeros((), dtype=torch.int64)
        self.staged = []

    @property
    def width(self):
        return self._width

    @property
    def num_rows(self):
        return self.capacity

    def to(self, device):
        pass

    def attend(self, q_BE, scale, hide=None, metric="dot"):
        """Every rank scores all queries on its rows; the shares are added up."""
        return log_sum_exp(q_BE, [Chunk(self.rows_NE, self.ids_N)], scale, hide, metric, sharded=True)

    def stage(self, rows_BE, tags):
        self.staged.append((rows_BE.detach().clone(), tags.ids_B.clone()))

    def commit(self, keep):
        staged, self.staged = self.staged, []
        if not staged:
            return
        rows = collectives.gather(torch.cat([rows for rows, _ in staged]))
        ids = collectives.gather(torch.cat([ids for _, ids in staged]))
        if bool(keep):
            slots = self.total + torch.arange(len(rows))
            mine = slots % collectives.world_size() == collectives.rank()
            most = self.capacity // collectives.world_size()
            self.rows_NE = torch.cat([self.rows_NE, rows[mine]])[-most:]
            self.ids_N = torch.cat([self.ids_N, ids[mine]])[-most:]
            self.total = self.total + len(rows)

    def state(self):
        """Oldest first, whatever the number of ranks."""
        world = collectives.world_size()
        rows, ids = (collectives.gather(part) for part in (self.rows_NE, self.ids_N))
        order = torch.arange(len(rows)).view(world, -1).T.flatten()
        return {"rows": rows[order], "ids": ids[order], "total": self.total}

    def load_state(self, state):
        mine = slice(collectives.rank(), None, collectives.world_size())
        self.rows_NE, self.ids_N, self.total = state["rows"][mine], state["ids"][mine], state["total"]


class SecondView(nn.Module):
    def __init__(self, tap):
        super().__init__()
        self.tap = tap

    def forward(self, step, /):
        noise = step.draws.normal("second-view", tuple(step.x.shape[1:]))
        x_t = step.interpolant.mix(step.x, noise, step.times.t)
        other = step.again(x_t, step.times.t, step.cond, taps=(self.tap,), until=self.tap)
        first, second = step.prediction.hidden[self.tap], other.hidden[self.tap]
        return Objective((first - second).float().square().mean())


class Teacher(nn.Module):
    def __init__(self, tap, weights):
        super().__init__()
        self.tap, self.weights = tap, weights

    def forward(self, step, /):
        t = step.times.t / 2
        x_t = step.interpolant.mix(step.x, step.noise, t)
        seen = step.again(x_t, t, step.cond, taps=(self.tap,), until=self.tap, weights=self.weights)
        assert not seen.hidden[self.tap].requires_grad
        student = step.prediction.hidden[self.tap]
        return Objective(
            1 - F.cosine_similarity(student.float(), seen.hidden[self.tap].float(), dim=-1).mean()
        )


class TwoMemories(nn.Module):
    def __init__(self, config, tap, width, written, read):
        super().__init__()
        self.config, self.tap = config, tap
        self.head, self.look = nn.Linear(width, written), nn.Linear(width, read)

    def forward(self, step, /):
        hidden = step.prediction.hidden[self.tap]
        pooled = hidden.float().mean(1)
        q = F.normalize(self.head(pooled), dim=1)
        attended = step.memories[self.config.writes].attend(q, 5.0, Hide(step.batch.index_B))
        values, _ = step.memories[self.config.reads].nearest(F.normalize(self.look(pooled), dim=1), 1)
        step.memories[self.config.writes].stage(q, Tags(step.batch.index_B))
        return Objective(attended.lse_B.mean() - 0.1 * values.mean(), {"count": attended.count_B.mean()})


class Poison(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.samples = config, torch.tensor((config.sample, *config.others))

    def forward(self, step, /):
        bad = torch.isin(step.batch.index_B, self.samples).any()
        if self.config.rank == collectives.rank() and step.images_seen >= self.config.since:
            bad = torch.ones_like(bad)
        factor = torch.where(bad, torch.nan, 0.0)
        value = step.prediction.output.float().square().mean()
        return Objective(0 * value + factor if self.config.loss_alone else factor * value)


class PixelMixer(nn.Module):
    def __init__(self, facts: object, width: int) -> None:
        super().__init__()
        channels, height, size = facts.sample_shape
        flat = channels * height * size
        self.shape = (facts.output_channels, height, size)
        self.first = nn.Linear(flat + 1 + facts.condition_width, width)
        self.last = nn.Linear(width, facts.output_channels * height * size)

    @property
    def block_names(self):
        return ("first",)

    def forward(self, x_t, t, cond, /, *, taps=(), until=None):
        parts = [x_t.flatten(1), t[:, None]]
        if cond.memory_BKE is not None:
            rows = cond.memory_BKE.mean(1)
            parts.append(rows if cond.drop_B is None else torch.where(cond.drop_B[:, None], 0.0 * rows, rows))
        hidden = self.first(torch.cat(parts, 1)).tanh()
        found = {tap: hidden[:, None] for tap in taps}
        if until is not None:
            return Prediction(hidden.new_empty(0), found)
        return Prediction(self.last(hidden).view(-1, *self.shape), found)
