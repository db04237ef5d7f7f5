"""The prompts of a post-training with rewards: which to draw next, and what is known of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arrays.bitset import Bitset
from ..arrays.distributed import Ranks, gather_rows
from ..arrays.key_store import KeyStore, digests, unique
from ..arrays.keyed import mix, uniform
from ..arrays.selection import blocks, smallest
from ..core.batch_checks import check_index
from ..core.order import BLOCK, Order
from ..errors import check_integer, check_real, check_share, invalid, invalid_type
from . import folder, state
from .log import MOST, GroupLog
from .reasons import PromptReason
from .rule import Rule, chance_of_mixed, fitted_prior
from .table import PromptTable
from .tally import PromptEpoch, PromptSummary, summarise

_DRAW = 0x9207
_BLOCK = 1 << 16


class Prompts:
    """Draws prompts whose groups are likely to be mixed, and leaves solved and hopeless ones out.

    In post-training with rewards (GRPO and its kin) a prompt gets a group of G rollouts. If all of them
    succeed, or all fail, the group has no advantage and no gradient: its rollouts are lost. What is known of
    a prompt is a Beta posterior of its success rate, from which follows the chance that its next group is
    mixed, :func:`fallow.prompts.chance_of_mixed`. A prompt whose chance is below ``bound`` is left out, as
    *solved* or as *hopeless*. It comes back at odds that fall with its chance, and never reach zero, so that
    it is measured again: the network moves, and forgets.

    Call :meth:`draw` for each step, and :meth:`record` with what came of it. An epoch is one walk over all
    prompts, in an order that depends on seed and epoch alone; it draws each prompt at most once.

    On several ranks all draw the same prompts. Each rank records what it measured, in a call that all make.

    Args:
        keys: a text for each prompt that names it in every run, such as its id; all different.
        group: G, the rollouts that a prompt gets at a time.
        success: the reward from which on a rollout counts as right. Shaped rewards are judged by it alone,
            not by their spread.
        bound: a prompt is left out if its chance of a mixed group is below this share of the highest chance
            that there can be; 0 leaves none out. A prompt that was never measured is drawn.
        revisit: the lowest odds at which a prompt comes back in an epoch.
        memory: the share of its older rollouts that counts on when a prompt is measured again.
        domains: the domain of each prompt, such as its kind of task, for ``min_share``: ``(N,)``.
        min_share: the least share of each domain's prompts in an epoch.
        seed: of all draws and orders.

    Attributes:
        rule: group, bound, revisit and memory.

    Raises:
        InvalidValue, InvalidType: if an argument is invalid.

    References:
        US 2020/0302273 A1, with the success rate in place of the label's probability.
        Act Only When It Pays (Zheng et al., 2025), https://arxiv.org/abs/2506.02177
        Can Prompt Difficulty be Online Predicted (Qu et al., 2025), https://arxiv.org/abs/2507.04632

    Example:
        >>> prompts = Prompts(["1+1=", "2*3=", "17*19="], group=4)
        >>> drawn = prompts.draw(3)
        >>> prompts.record(["1+1=", "2*3=", "17*19="], [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]])
        >>> prompts.success_rate.round(2).tolist()
        [0.9, 0.7, 0.1]
    """

    def __init__(
        self,
        keys: Sequence[str],
        group: int,
        *,
        success: float = 1.0,
        bound: float = 0.3,
        revisit: float = 1 / 16,
        memory: float = 0.5,
        domains: Sequence[Any] | None = None,
        min_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        rule = Rule(group, bound, revisit, memory)
        settings = {
            **asdict(rule),
            "success": check_real("success", success),
            "min_share": check_share("min_share", min_share, closed=True),
            "seed": check_integer("seed", seed, -(2**63)),
        }
        if min_share and domains is None:
            raise invalid(
                "`min_share` needs `domains`.", "none", "Pass domains=(N,), the kind of each prompt."
            )
        stored = _stored(keys)
        self._take(PromptTable.new(stored, _numbered(domains, len(stored)), settings))

    def _take(self, table: PromptTable) -> None:
        """Take over a table, and go on in its epoch."""
        self._table, self._ranks = table, Ranks()
        rule = {name: table.settings[name] for name in ("group", "bound", "revisit", "memory")}
        self.rule = Rule(**rule)  # type: ignore[arg-type]
        self._order = self._ordered() if table.history else None
        self._block: tuple[int, NDArray[np.int64]] | None = None

    @property
    def n(self) -> int:
        """The number of prompts."""
        return len(self._table)

    @property
    def group(self) -> int:
        """The rollouts that a prompt gets at a time."""
        return self.rule.group

    @property
    def seed(self) -> int:
        """The seed of all draws and orders."""
        return int(self._table.settings["seed"])

    @property
    def step(self) -> int:
        """The number of draws."""
        return self._table.step

    @property
    def history(self) -> list[PromptEpoch]:
        """The epochs that have begun."""
        return list(self._table.history)

    @property
    def log(self) -> GroupLog:
        """The groups that were measured."""
        return self._table.log

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        left = [int(np.count_nonzero(self._table.reason == reason)) for reason in list(PromptReason)[1:]]
        return f"Prompts({self.n:,} keys, group={self.group}: {left[0]:,} solved, {left[1]:,} hopeless)"

    @property
    def epoch(self) -> int:
        """The number of the present epoch, from 0; -1 before the first draw."""
        return len(self._table.history) - 1

    @property
    def reason(self) -> NDArray[np.uint8]:
        """The :class:`~fallow.prompts.PromptReason` for leaving out each prompt: ``(N,)``; 0 is drawn."""
        return self._table.reason.copy()

    @property
    def success_rate(self) -> NDArray[np.float64]:
        """The mean of each prompt's posterior: ``(N,)``, in [0, 1]."""
        right, wrong = self._posterior(0, self.n, self._prior())
        rate: NDArray[np.float64] = right / (right + wrong)
        return rate

    @property
    def chance(self) -> NDArray[np.float64]:
        """The chance that the next group of each prompt is mixed: ``(N,)``, in [0, 1]."""
        return chance_of_mixed(*self._posterior(0, self.n, self._prior()), self.group)

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Return the place of each key among the prompts, -1 for an unknown one: ``(K,)``."""
        return self._table.keys.find(digests(keys))

    def draw(self, count: int) -> NDArray[np.int64]:
        """Return the prompts of the next step, all different: their places ``(count,)``, int64.

        If the present epoch has fewer prompts left, the next one begins.

        Raises:
            InvalidValue: if there are fewer prompts.
        """
        check_integer("count", count, 1)
        if count > self.n:
            raise invalid(f"A draw must have at most {self.n:,} prompts, as there are.", f"{count:,}")
        parts = [np.zeros(0, np.int64)]
        missing = count
        while missing:
            if self._order is None or self._table.drawn == len(self._order):
                self._begin(count)
            assert self._order is not None
            found = self._read(self._table.drawn, min(self._table.drawn + missing, len(self._order)))
            self._table.drawn += found.size
            # Two epochs may meet in a step.
            if len(parts) > 1:
                found = found[~np.isin(found, np.concatenate(parts))]
            parts.append(found)
            missing -= found.size
        self._table.step += 1
        return np.concatenate(parts)

    def _read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return some places of the epoch's order, or as many of them as its present block holds."""
        assert self._order is not None
        first = start - start % BLOCK
        if self._block is None or self._block[0] != first:
            # Many steps read from one block: a permutation costs much less for many places at a time.
            self._block = first, self._order.read(first, min(first + BLOCK, len(self._order)))
        return self._block[1][start - first : stop - first]

    def record(self, prompts: Any, rewards: Any, tokens: Any = None) -> None:
        """Note the rewards of some rollouts.

        Args:
            prompts: the key or the place of each prompt, ``(B,)``. One that is named several times is one
                group.
            rewards: ``(B, G)``, or ``(B,)``, one for each entry of ``prompts``; any number G. NaN is a
                rollout that could not be judged; it is not counted.
            tokens: the tokens of each rollout, in the shape of ``rewards``, to show what they cost.

        Raises:
            InvalidType, InvalidValue: if a key is unknown, or shapes do not match; nothing is noted.
        """
        rows, judged, right, lengths = self._checked(prompts, rewards, tokens)
        parts = gather_rows(np.stack([rows, judged, right, lengths], axis=1), group=self._ranks.group)
        rows, *counts = np.concatenate([part[0] for part in parts]).T
        found, which = np.unique(rows, return_inverse=True)
        attempts, right, lengths = (
            np.bincount(which, count, found.size).astype(np.int64) for count in counts
        )
        if (attempts > MOST).any():
            raise invalid(f"A prompt must have at most {MOST:,} rollouts in a call.", f"{attempts.max():,}")
        told = attempts > 0
        self._table.count(found[told], attempts[told], right[told])
        step = max(0, self.step - 1)
        self._table.log.add(row=found, step=step, attempts=attempts, right=right, tokens=lengths)

    def _checked(self, prompts: Any, rewards: Any, tokens: Any) -> tuple[NDArray[np.int64], ...]:
        """Return place, judged rollouts, successes and tokens of each entry of ``prompts``."""
        rows = self._places(prompts)
        values = _array("rewards", rewards, "biuf", "numbers")
        if values.ndim not in (1, 2) or len(values) != rows.size:
            rule = f"`rewards` must be ({rows.size},) or ({rows.size}, G), as there are {rows.size} prompts."
            raise invalid(rule, f"shape {values.shape}", "Name the prompt of each reward.")
        by_prompt = values.reshape(rows.size, -1).astype(np.float64)
        judged = ~np.isnan(by_prompt)
        lengths = np.zeros(rows.size, np.int64)
        if tokens is not None:
            counts = _array("tokens", tokens, "iu", "whole numbers")
            if counts.shape != values.shape:
                raise invalid(
                    "`tokens` must have the shape of `rewards`.", f"{counts.shape} and {values.shape}"
                )
            if counts.size and counts.min() < 0:
                raise invalid("`tokens` must be at least 0.", int(counts.min()))
            lengths = counts.reshape(rows.size, -1).sum(axis=1, dtype=np.int64)
        right = (by_prompt >= _rounded_as(rewards, self._table.settings["success"])).sum(
            axis=1, dtype=np.int64
        )
        return rows, judged.sum(axis=1, dtype=np.int64), right, lengths

    def _places(self, prompts: Any) -> NDArray[np.int64]:
        """Return the place of each prompt that a call names."""
        if isinstance(prompts, str):
            raise invalid_type("`prompts` must be a list of keys or places.", f"the text {prompts!r:.80}")
        if not isinstance(prompts, Tensor | np.ndarray):
            prompts = list(prompts)
            if any(isinstance(prompt, str) for prompt in prompts):
                rows = self.rows(prompts)
                if (rows < 0).any():
                    first = prompts[int(np.argmax(rows < 0))]
                    step = "Make Prompts with the keys of all prompts."
                    raise invalid("A prompt must be one of the keys.", f"{first!r:.80}", step)
                return rows
        return check_index(prompts, self.n)

    def _prior(self) -> tuple[float, float]:
        return fitted_prior(self._table.right, self._table.wrong)

    def _posterior(
        self, start: int, stop: int, prior: tuple[float, float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return (
            self._table.right[start:stop].astype(np.float64) + prior[0],
            self._table.wrong[start:stop].astype(np.float64) + prior[1],
        )

    def _begin(self, least: int) -> None:
        """Plan the next epoch, with at least as many prompts as a step draws."""
        epoch, prior = len(self._table.history), self._prior()
        key, returned, total = mix(_DRAW, self.seed, epoch), 0, 0.0
        for start, stop in blocks(self.n):
            right, wrong = self._posterior(start, stop, prior)
            chance = chance_of_mixed(right, wrong, self.group)
            reason = np.where(right >= wrong, PromptReason.SOLVED, PromptReason.HOPELESS).astype(np.uint8)
            total += float(chance.sum())
            # What was never measured is drawn.
            known = (self._table.right[start:stop] > 0) | (self._table.wrong[start:stop] > 0)
            drawn = ~known | (uniform(key, start, stop) <= self.rule.odds(chance))
            returned += int(np.count_nonzero(drawn & known & (chance < self.rule.lowest)))
            self._table.reason[start:stop] = np.where(drawn, np.uint8(PromptReason.KEPT), reason)
        returned += self._fill_up(least, prior)
        solved, hopeless = (
            int(np.count_nonzero(self._table.reason == reason)) for reason in list(PromptReason)[1:]
        )
        kept = self.n - solved - hopeless
        record = PromptEpoch(epoch, self.step, kept, solved, hopeless, returned, total / self.n)
        self._table.history.append(record)
        self._table.drawn, self._order, self._block = 0, self._ordered(), None

    def _ordered(self) -> Order:
        """Return the prompts of the present epoch in their order."""
        return Order(Bitset(self._table.reason == PromptReason.KEPT), self.seed, self.epoch)

    def _fill_up(self, least: int, prior: tuple[float, float]) -> int:
        """Give back the likeliest prompts to a domain below its least share, and to an epoch below a step."""
        count, share = 0, self._table.settings["min_share"]
        if self._table.domains is not None and share:
            wanted = np.ceil(share * np.bincount(self._table.domains)).astype(np.int64)
            kept = np.bincount(
                self._table.domains[self._table.reason == PromptReason.KEPT], minlength=wanted.size
            )
            for domain in np.flatnonzero(wanted > kept):
                count += self._give_back(
                    int(wanted[domain] - kept[domain]), prior, self._table.domains == domain
                )
        short = least - int(np.count_nonzero(self._table.reason == PromptReason.KEPT))
        return count + (self._give_back(short, prior, None) if short > 0 else 0)

    def _give_back(self, count: int, prior: tuple[float, float], among: NDArray[np.bool_] | None) -> int:
        """Give back the prompts left out whose chance is highest."""

        def rank(start: int, stop: int) -> NDArray[np.float32]:
            out = self._table.reason[start:stop] != PromptReason.KEPT
            if among is not None:
                out &= among[start:stop]
            chance = chance_of_mixed(*self._posterior(start, stop, prior), self.group)
            return np.where(out, -chance, np.nan).astype(np.float32)

        self._table.reason[smallest(rank, self.n, count)] = PromptReason.KEPT
        return count

    def summary(self) -> PromptSummary:
        """Return what the training cost and saved so far."""
        done = self._table.drawn / len(self._order) if self._order else 0.0
        return summarise(self._table.log, self._table.history, self.n, self._table.step, done, self.group)

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state, as plain values and arrays; a training goes on from it exactly."""
        return state.of(self._table)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of the same prompts and settings.

        Raises:
            InvalidValue: if prompts or settings differ.
            DamagedData: if the state is not whole.
        """
        self._take(state.put_back(self._table, state_dict))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save into a folder: groups that are not there yet as a new file, and the state.

        Files of groups are written once and never changed. :meth:`load` goes on from the folder, and other
        runs :meth:`merge` it. On several ranks the first writes.

        Raises:
            WrongState: if the folder holds another run.
            NotWritten: if a file cannot be written.
        """
        if self._ranks.rank == 0:
            folder.save(self._table, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Prompts:
        """Return what was saved, to go on with the same run exactly.

        Raises:
            DamagedData: if a file is missing or damaged.
        """
        prompts = cls.__new__(cls)
        prompts._take(folder.load(path))
        return prompts

    def merge(self, path: str | os.PathLike[str], weight: float = 0.5) -> int:
        """Begin with what another run measured: its groups count as rollouts of earlier times.

        A group counts once, however often a folder is merged. Keys that are unknown here are left alone.

        Args:
            path: the folder of the other run.
            weight: what its rollouts count against those of this run: it had another network.

        Returns:
            The number of prompts of which it told something new.

        Raises:
            DamagedData: if a file is missing or damaged; nothing is merged.
            InvalidValue: if the weight is not in [0, 1], or the folder is this run's own.
        """
        weight = check_share("weight", weight, closed=True)
        return folder.merge(self._table, path, weight)


def _stored(keys: Any) -> KeyStore:
    """Return the keys of all prompts, once they are known to be different texts."""
    if isinstance(keys, str | bytes) or not hasattr(keys, "__len__") or not hasattr(keys, "__iter__"):
        raise invalid_type("`keys` must be a sequence of texts, one for each prompt.", repr(keys)[:80])
    parts, left = [], iter(keys)
    while part := list(islice(left, _BLOCK)):
        for key in part:
            if not isinstance(key, str):
                raise invalid_type("A key must be a text.", repr(key)[:80], "Pass str(id) for each prompt.")
        parts.append(digests(part))
    if not parts:
        raise invalid("There must be at least one prompt.", "no key")
    found = np.concatenate(parts)
    different, first, _ = unique(found)
    if len(different) < len(found):
        again = np.ones(len(found), np.bool_)
        again[first] = False
        twice = next(islice(iter(keys), int(np.argmax(again)), None))
        step = "Add what tells the prompts apart."
        raise invalid(f"The {len(found):,} keys must be different.", f"{twice!r:.80} twice", step)
    store = KeyStore()
    store.add(found)
    return store


def _numbered(domains: Any, n: int) -> NDArray[np.int32] | None:
    """Return a number from 0 for the domain of each prompt, or None."""
    if domains is None:
        return None
    names = domains.tolist() if hasattr(domains, "tolist") else list(domains)
    if len(names) != n:
        raise invalid(f"`domains` must have one entry for each of the {n:,} prompts.", f"{len(names):,}")
    known: dict[Any, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int32)


def _rounded_as(values: Any, number: float) -> float:
    """Return a number as the type of the values holds it: a reward of 0.9 in float32 is 0.9."""
    if isinstance(values, Tensor) and values.is_floating_point():
        return float(torch.tensor(number, dtype=values.dtype))
    if isinstance(values, np.ndarray | np.generic) and values.dtype.kind == "f":
        return float(values.dtype.type(number))
    return number


def _array(name: str, values: Any, kinds: str, what: str) -> NDArray[Any]:
    """Return numbers as an array on the host."""
    if isinstance(values, Tensor):
        values = values.detach()
        values = (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).cpu().numpy()
    try:
        array = np.asarray(values)
    except ValueError:  # rows of unequal length
        raise invalid(f"`{name}` must have one length for all prompts.", "rows of unequal length") from None
    if array.dtype.kind not in kinds and array.size:
        raise invalid_type(f"`{name}` must be {what}.", f"{array.dtype}")
    return array
