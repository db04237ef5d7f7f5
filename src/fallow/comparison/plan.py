"""The runs of a comparison, and those that are already in its folder."""

from __future__ import annotations

import ast
import json
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..errors import damaged
from ..files.lock import RunLock
from ..options.factories import make_policy
from ..options.resolve import ResolvedOptions, as_given
from ..options.train_options import NOTED_OPTIONS, OPTIONS, TrainOptions, named
from ..policies import Policy
from ..runs.directory import RunDirectory
from .arms import FULL, Arm
from .files import Finished, read_config, read_summary
from .folder import RUNS, differences, make_folder, refuse
from .options import NOT_SHARED

_DIALS = {name for name, known in OPTIONS.items() if known.policies}
"""Options that are fields of a policy."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        arm: the arm.
        seed: the seed.
        options: of ``fallow train``, with seed and folder.
    """

    arm: Arm
    seed: int
    options: ResolvedOptions

    @property
    def name(self) -> str:
        """``soft-0.5-3``: arm, saving, seed."""
        return f"{self.arm.label}-{self.seed}"

    @property
    def path(self) -> Path:
        """Its run directory."""
        return Path(str(self.options.out))

    @property
    def resumable(self) -> bool:
        """Whether it was stopped and left a state."""
        return self.summary() is None and RunDirectory(self.path).checkpoints.newest().found is not None

    @property
    def session(self) -> ResolvedOptions:
        """The options to start or resume it with."""
        return replace(self.options, out=None, resume=str(self.path)) if self.resumable else self.options

    def summary(self) -> Finished | None:
        """Return the summary of the run; None if it is not finished."""
        files = RunDirectory(self.path)
        # The chart is written last: a summary alone may be that of a run killed before its end.
        if not (self.path / "usage.svg").exists() or not files.summary_path.exists():
            return None
        finished = read_summary(files.summary_path)
        summary = finished.summary
        trained = len(summary.epochs)
        early = summary.stopped_early and trained < self.options.epochs
        done = summary.finished and (trained == self.options.epochs or early)
        return finished if done else None


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison, or of a choice that is made before them.

    Attributes:
        base: the options that all runs share.
        arms: every arm at each of its savings.
        saved: the savings.
        seeds: the seeds.
        out: the folder of the comparison.
        place: the folder of these runs in it.
        part: the share of the training samples that they train on; the rest is held out.
    """

    base: ResolvedOptions
    arms: tuple[Arm, ...]
    saved: tuple[float, ...]
    seeds: tuple[int, ...]
    out: Path
    place: str = RUNS
    part: float = 1.0

    def runs(self) -> list[Run]:
        """Return every run, seed by seed, so that a stopped comparison has complete seeds."""
        return [
            Run(
                arm,
                seed,
                replace(arm.options, seed=seed, out=str(self.out / self.place / f"{arm.label}-{seed}")),
            )
            for seed in self.seeds
            # Full training first, as every arm of its seed is compared with it.
            for arm in sorted(self.arms, key=lambda arm: arm.name != FULL)
        ]

    def missing(self) -> list[Run]:
        """Return the runs that are not finished."""
        return [run for run in self.runs() if run.summary() is None]

    @property
    def settings(self) -> dict[str, Any]:
        """The options that all runs share."""
        return shared_settings(self.base)

    def check(self) -> None:
        """Raise if a run of the same name was trained with other options.

        Raises:
            InvalidValue: naming each option that differs.
        """
        for run in self.runs():
            if run.path.exists():
                self._refuse_other_run(run)

    def clear(self) -> None:
        """Make the folder of the runs, and remove runs that were stopped before their first state.

        Raises:
            DamagedData: if a run has epochs but no sound state.
            InvalidValue: if the folder cannot be made.
        """
        make_folder(self.out, self.place)
        for run in self.runs():
            # It cannot be resumed, and training refuses a folder that holds something.
            if run.path.exists() and run.summary() is None and not run.resumable:
                _remove(run.path)

    def _refuse_other_run(self, run: Run) -> None:
        """Raise if a run of this name was trained with other options."""
        path = RunDirectory(run.path).config_path
        if not path.exists():
            return
        before = read_config(path)
        now = {name: value for name, value in asdict(as_given(run.options)).items() if value is not None}
        for name in ("out", *named(session=True)):
            before.pop(name, None)
            now.pop(name, None)
        finished = run.summary()
        policy = make_policy(run.options)
        for name in _defaults(run, finished):
            if now.get(name) in (None, "auto"):  # not given now either
                before.pop(name, None)
                now.pop(name, None)
        stored = None if finished is None else finished.summary.policy
        same = stored is not None and _is_policy(stored, policy)
        # Several options make the same policy, such as a fraction and a fraction by default.
        for name in _DIALS if same else ():
            before.pop(name, None)
            now.pop(name, None)
        # Options that came with a later version.
        new = {name for name, value in vars(TrainOptions()).items() if now.get(name) == value} - before.keys()
        refuse(run.path, differences(before, {k: v for k, v in now.items() if k not in new}))
        if stored is not None and not same:  # a version with other defaults
            refuse(run.path, [f"{stored}, now {policy}"])


def shared_settings(base: ResolvedOptions) -> dict[str, Any]:
    """Return the options that all runs of a comparison share, as JSON reads them back."""
    shared = {name: value for name, value in asdict(as_given(base)).items() if name not in NOT_SHARED}
    # JSON has no tuples.
    return json.loads(json.dumps(shared))  # type: ignore[no-any-return]


def _defaults(run: Run, finished: Finished | None) -> frozenset[str]:
    """Return the options in ``config.yaml`` that were not given but chosen by the data."""
    if finished is not None:
        return NOTED_OPTIONS & set(finished.summary.used.by_default)
    state = RunDirectory(run.path).checkpoints.newest().found
    return NOTED_OPTIONS if state is None else NOTED_OPTIONS & set(state.about.defaults)


def _remove(path: Path) -> None:
    """Remove a run without epochs that no process writes to."""
    if RunDirectory(path).epochs():
        step = "Put back a copy of the folder, or remove it to train the run again."
        raise damaged(f"{path} must hold a sound state.", "none", step)
    # Another process may have begun to train it.
    with RunLock(path):
        shutil.rmtree(path)


def _is_policy(stored: str, policy: Policy) -> bool:
    """Return whether ``stored`` is the repr of an equal policy, written by this version or an older one.

    A field that the older version did not have counts as its default.

    >>> from fallow import Fraction
    >>> _is_policy("Fraction(fraction=0.5, exponent=2.0)", Fraction(0.5, exponent=2))
    True
    >>> _is_policy("Fraction(fraction=0.5)", Fraction(0.5, exponent=2))
    False
    """
    kind, before = _parsed(stored)
    name, now = _parsed(repr(policy))
    defaults = {field.name: repr(field.default) for field in fields(policy)}  # type: ignore[arg-type]
    return kind == name and now == defaults | before


def _parsed(text: str) -> tuple[str, dict[str, str]]:
    """Return class and fields of a repr, as they are written; ``text`` without fields if it is none."""
    try:
        # Parsed and never evaluated, since a summary may come from anybody.
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return text, {}
    if not isinstance(call, ast.Call):
        return text, {}
    return ast.unparse(call.func), {str(word.arg): ast.unparse(word.value) for word in call.keywords}
