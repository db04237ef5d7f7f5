"""The survey of a pool, part by part: in this process, or as a worker makes it of its share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.checksums import row_checksums
from ..datasets.pool_part import WHOLE, Pool, PoolPart
from ..gaps import Survey, Surveyor


class SurveyedPart(NamedTuple):
    """A part of a pool, and what the network says of it.

    Attributes:
        part: the part, without its images.
        survey: of its B samples; None if none could be read.
        checksums: uint64 ``(B,)``, of their pixels.
    """

    part: PoolPart
    survey: Survey | None
    checksums: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class PoolSurvey:
    """All that a survey of a pool needs.

    Attributes:
        pool: the samples.
        surveyor: of a trained run.
        prepare: turns images into inputs of the network.
    """

    pool: Pool
    surveyor: Surveyor
    prepare: Callable[[Tensor], Tensor]

    def parts(self, share: tuple[int, int] = WHOLE) -> Generator[SurveyedPart]:
        """Yield the parts of the pool in order, or those of a share; see :meth:`Pool.parts`.

        A part passes through the network as one batch, so a survey is the same to the last bit whoever makes
        it.
        """
        for part in self.pool.parts(share=share):
            survey = None
            if len(part):
                survey = self.surveyor.survey([(self.prepare(part.images), torch.from_numpy(part.labels))])
            sums = row_checksums(part.images.numpy())
            yield SurveyedPart(replace(part, images=part.images.new_empty(0)), survey, sums)
