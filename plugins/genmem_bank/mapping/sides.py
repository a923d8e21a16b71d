"""The two sides a map can come from: pictures by another encoder, and the names of classes.

Shapes: N pictures, D width of a feature, T texts, K classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from genmem.contracts import DatasetFolder, OnDevice
from genmem.data.states import hash_state
from genmem_bank.building.encoding import EncodedPictures
from genmem_bank.building.features import Features
from genmem_bank.mapping.held_out import choose_held_out, score_rows, score_texts
from genmem_bank.mapping.makers import Maker, encode_texts, pack_fitted
from genmem_bank.mapping.names import Names
from genmem_bank.mapping.network import RowMap
from genmem_bank.mapping.pairs import ClassTexts, OtherFeatures
from genmem_bank.mapping.subject import Subject


class PictureSide:
    """Another encoder's features of the bank's own pictures."""

    texts: Names = ()

    def __init__(self, subject: Subject, maker: Maker, device: torch.device, kept: Path) -> None:
        """Take them from the set, or make them.

        Raises:
            ValueError: Pictures that the encoder does not work on.
        """
        self._subject, self._maker, self._device = subject, maker, device
        data, self._made = subject.data, _made(subject, maker, device, kept)
        if isinstance(self._made, EncodedPictures):
            self.state, self.learned = self._made.hash, self._made.learned
        else:
            self.state, self.learned = pack_fitted(maker, data)
        self.pairs = subject.built
        samples = subject.samples
        features = Features(
            dataset=self._made,
            encoder=maker.name,
            views=samples.views,
            count=samples.count,
            numbers=subject.numbers,
        )
        self.partner = OtherFeatures(features)

    def score(self, network: RowMap) -> dict[str, float]:
        """On held-out pictures; empty where there are none."""
        number_N = choose_held_out(self._made.count("test"))
        if not len(number_N):
            return {}
        parts = [self._made.feature("test", self._maker.name, one, one + 1) for one in number_N.tolist()]
        feature_ND = torch.from_numpy(np.concatenate(parts).astype(np.float32))
        found_NE = network(feature_ND.to(self._device)).cpu()
        return score_rows(found_NE, self._subject.held_out(number_N), self._subject.mean_E)


class TextSide:
    """A text for each picture: a name of its class."""

    learned: bytes | None = None

    def __init__(self, subject: Subject, maker: Maker, device: torch.device, texts: Names) -> None:
        """Encode every name.

        Raises:
            ValueError: Rows without classes, or names that the encoder refuses.
        """
        self._subject, self._device, self.texts = subject, device, texts
        label_N = subject.rows.labels(np.arange(subject.built))
        self.pairs = int((label_N >= 0).sum())
        if not self.pairs:
            raise ValueError(f"{subject.folder}: none of its rows has a class, so there is no text to learn")
        encoder = maker.config.build()
        if isinstance(encoder, OnDevice):
            encoder.to(device)
        feature_TD = torch.from_numpy(encode_texts(encoder, [name for line in texts for name in line]))
        self.state = hash_state(encoder.state())
        self.partner = ClassTexts(feature_TD, np.cumsum([0, *map(len, texts)]), label_N)

    def score(self, network: RowMap) -> dict[str, float]:
        """On held-out pictures with a class; empty where there are none."""
        dataset = self._subject.data.dataset
        number_N = choose_held_out(dataset.count("test"))
        label_N = dataset.labels("test")[number_N]
        number_N, label_N = number_N[label_N >= 0], label_N[label_N >= 0]
        if not len(number_N):
            return {}
        found_TE = network(self.partner.feature_TD.to(self._device)).cpu()
        class_T = torch.repeat_interleave(torch.tensor([len(line) for line in self.texts]))
        return score_texts(found_TE, class_T, self._subject.held_out(number_N), torch.from_numpy(label_N))


def _made(subject: Subject, maker: Maker, device: torch.device, kept: Path) -> DatasetFolder:
    """The set, with these features."""
    data = subject.data
    if maker.stored:
        return data.dataset
    return EncodedPictures(
        data.dataset,
        data.tokenizer(),
        maker.name,
        maker.seat,
        device,
        kept=kept,
        numbers=subject.numbers,
    )
