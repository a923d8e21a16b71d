"""The Python API: load a run, sample from it, look at the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch

from genmem.building import Builder, Shapes, shapes_of
from genmem.conditioning import Conditioner
from genmem.contracts import MemoryStore
from genmem.data.dataset import Dataset
from genmem.devices import resolve
from genmem.pictures import Pictures
from genmem.recipe import load as load_recipe
from genmem.recipe.tables import Recipe
from genmem.sampling.generator import Generator, generator_of
from genmem.training import checkpoints
from genmem.training.folder import PLACES, RunFolder, places_of_memories
from genmem.training.integrity import choose, load_state
from genmem.training.provenance import moves_data, open_again

FREE = ("sampler.", "guidance.", "guidance=", "evaluate.", "memory.", *PLACES)
"""Where a recipe says how samples are made and scored, and where its set lies; the rest is what the weights
were trained as."""


def load(
    path: str | Path,
    *,
    overrides: tuple[str, ...] = (),
    plugins: tuple[str | Path, ...] = (),
    device: str | None = None,
    checkpoint: int | None = None,
) -> Run:
    """Open a run folder.

    Args:
        path: The folder `genmem train` wrote.
        overrides: Over its recipe, "--sampler.steps=50" say; the weights stay as they are. What they
            were trained as is refused. "--data.path=…" names the place the run's set was moved to.
        plugins: Un-packaged plugin files the run was made with; they are never run unasked.
        device: Instead of the recipe's.
        checkpoint: Images seen by the weights to take; those of the newest if absent.

    Raises:
        FileNotFoundError: No such run, no checkpoint in it yet, or not this one.
        ValueError: A damaged checkpoint; the message names one that is whole.
        genmem.recipe.RecipeError: Its recipe names what is not installed.
    """
    files = tuple(Path(file) for file in plugins)
    return Run(Path(path), overrides=overrides, plugins=files, device=device, checkpoint=checkpoint)


class Run:
    """A trained, or partly trained, run."""

    def __init__(
        self,
        path: Path,
        *,
        overrides: tuple[str, ...] = (),
        plugins: tuple[Path, ...] = (),
        device: str | None = None,
        checkpoint: int | None = None,
    ) -> None:
        """Read the recipe and find the checkpoint."""
        for word in overrides:
            if not word.removeprefix("--").startswith(FREE):
                raise ValueError(
                    f"{word}: the run is trained; only sampler, guidance, evaluate and memory can be others "
                    "now, and data.path where its set was moved. Train another run for the rest"
                )
        self.overrides = overrides
        self.folder = RunFolder(path)
        if not self.folder.recipe.exists():
            raise FileNotFoundError(
                f"{path} is no run folder: it has no recipe.toml (genmem train makes one)"
            )
        self.recipe: Recipe = load_recipe(self.folder.recipe, overrides, plugins, run_plugins=False)
        self.device = resolve(device or self.recipe.train.device)
        found = choose(self.folder.checkpoints, checkpoint)
        if found is None:
            raise FileNotFoundError(f"{path} has no checkpoint yet; run genmem train until it saves one")
        self.checkpoint = found

    @property
    def images_seen(self) -> int:
        """Images the checkpoint has seen."""
        return int(self.checkpoint.name)

    @cached_property
    def dataset(self) -> Dataset:
        """The data set it was trained on; made again from its source, and told, where it is gone.

        Raises:
            genmem.data.errors.DataError: It is not there and cannot be made; or it is another one.
        """
        return open_again(self.recipe.data, self.checkpoint, moved=any(map(moves_data, self.overrides)))

    @cached_property
    def shapes(self) -> Shapes:
        """Shapes the network was made for, as the checkpoint records them; no data set is needed."""
        recorded = load_state(self.checkpoint).get("shapes")
        return Shapes.of_json(recorded) if recorded else shapes_of(self.dataset)

    def generator(self, weights: str | None = None) -> Generator:
        """What samples: the backbone alone, with its bank, and no objective.

        Args:
            weights: An EMA's name or "online"; the recipe's `evaluate.weights` if absent.
        """
        recipe = self.recipe
        builder = Builder(recipe, self.shapes)
        memories = self._memories(builder)
        backbone = builder.backbone(memories, self.device)
        backbone.load_state_dict(checkpoints.weights(self.checkpoint, weights or recipe.evaluate.weights))
        return generator_of(
            recipe, backbone.eval(), Conditioner(recipe.condition, memories), self.shapes, self.device
        )

    def _memories(self, builder: Builder) -> dict[str, MemoryStore]:
        try:
            memories = builder.memories(self.device)
        except FileNotFoundError as error:
            places = ", ".join(f"--{key}=…" for key in places_of_memories(self.recipe))
            if not places:
                raise
            raise FileNotFoundError(f"{error}; {places} names the place where it lies now") from error
        self._check(memories)
        return memories

    def _check(self, memories: Mapping[str, MemoryStore]) -> None:
        """Refuse a bank that came to lie where the run's was; another one is asked for by an override."""
        recorded = load_state(self.checkpoint).get("fingerprints", {})
        for name, store in memories.items():
            before, now = recorded.get(f"memory.{name}"), store.fingerprint()
            asked = any(word.removeprefix("--").startswith(f"memory.{name}.") for word in self.overrides)
            if before is not None and before.get("encoder") != now.get("encoder"):
                raise ValueError(
                    f"memory.{name} has rows of another encoder than the run was trained with: "
                    f"{before.get('encoder')} there, {now.get('encoder')} here; they would mean nothing to it"
                )
            if before is not None and before != now and not asked:
                raise ValueError(
                    f"memory.{name} is another one than the run was trained with: {before} there, "
                    f"{now} here; bring that one back, or ask for this one by --memory.{name}.KEY=VALUE"
                )

    def sample(self, num: int, *, seed: int = 0, weights: str | None = None) -> Pictures:
        """Pictures number 0 … num - 1 of this seed; in a notebook they show themselves."""
        generator = self.generator(weights)
        tokenizer = self.recipe.data.tokenizer.config.build()
        parts = list(generator.batches(torch.arange(num), seed, self.recipe.evaluate.batch))
        pictures = [tokenizer.decode(part.x) for part in parts]
        return Pictures.joined(pictures)
