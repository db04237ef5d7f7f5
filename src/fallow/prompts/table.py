"""What is known of each prompt, and what was measured: the state of a run."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays.key_store import KeyStore
from .log import GroupLog
from .tally import PromptEpoch


@dataclass(eq=False)
class PromptTable:
    """The state of a run with N prompts.

    Attributes:
        keys: their keys.
        domains: the number of each prompt's domain, int32 ``(N,)``, or None.
        settings: plain values on which draws depend.
        right, wrong: successes and failures of each prompt, older ones discounted: float32 ``(N,)``.
        reason: why each is left out of the present epoch: uint8 ``(N,)``.
        log: the groups that were measured.
        history: the epochs that have begun.
        step: the number of draws.
        drawn: prompts of the present epoch that are drawn.
        merged: how many groups of other runs are in the counts, by the name of the run.
        name: of this run; no other has it, and no draw depends on it.
        saved: how many files of groups this object has written or compared, by folder; not part of the state.
    """

    keys: KeyStore
    domains: NDArray[np.int32] | None
    settings: dict[str, int | float]
    right: NDArray[np.float32]
    wrong: NDArray[np.float32]
    reason: NDArray[np.uint8]
    log: GroupLog = field(default_factory=GroupLog)
    history: list[PromptEpoch] = field(default_factory=list)
    step: int = 0
    drawn: int = 0
    merged: dict[str, int] = field(default_factory=dict)
    name: str = field(default_factory=lambda: secrets.token_hex(16))
    saved: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def new(keys: KeyStore, domains: NDArray[np.int32] | None, settings: dict[str, Any]) -> PromptTable:
        """Return the table of a run that begins."""
        n = len(keys)
        right, wrong = np.zeros(n, np.float32), np.zeros(n, np.float32)
        return PromptTable(keys, domains, settings, right, wrong, np.zeros(n, np.uint8))

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the keys in their order, and of the domains."""
        digest = hashlib.blake2b(self.keys.digests().astype("<u8").tobytes(), digest_size=16)
        if self.domains is not None:
            digest.update(self.domains.astype("<i4").tobytes())
        return digest.hexdigest()

    def count(self, rows: NDArray[np.int64], attempts: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        """Add the rollouts of different prompts to their counts, after discounting the older ones."""
        memory = np.float32(self.settings["memory"])
        self.right[rows] = self.right[rows] * memory + right
        self.wrong[rows] = self.wrong[rows] * memory + (attempts - right)
