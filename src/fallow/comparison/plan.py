"""The runs of a comparison, and what of it lies in its folder already."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any

from ..errors import damaged, invalid, wrong_state
from ..files.lock import RunLock, open_lock
from ..files.regular_file import check_folder
from ..options.factories import make_policy
from ..options.resolve import ResolvedOptions, as_given
from ..options.train_options import ON_DATA, OPTIONS, named
from ..policies import Policy
from ..runs.directory import RunDirectory
from .arms import FULL, Arm
from .files import FORMAT, Finished, read_config, read_settings, read_summary
from .options import NOT_SHARED

_LOCK = ".lock"
_DIALS = {name for name, known in OPTIONS.items() if known.policies}
"""Options that are fields of a policy and of nothing else; a fraction may be that of a step rule too."""


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        arm: what it trains by.
        seed: of it.
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
    def begun(self) -> bool:
        """Whether it was stopped, and left a state to go on from."""
        return self.summary() is None and RunDirectory(self.path).checkpoints.newest().found is not None

    @property
    def session(self) -> ResolvedOptions:
        """Return the options by which it is trained from here on."""
        return replace(self.options, out=None, resume=str(self.path)) if self.begun else self.options

    def summary(self) -> Finished | None:
        """Return what a finished run left behind; None where it is not finished."""
        files = RunDirectory(self.path)
        if not (self.path / "usage.svg").exists() or not files.summary_path.exists():
            return None
        found = read_summary(files.summary_path)
        done = found.summary.finished and len(found.summary.epochs) == self.options.epochs
        return found if done else None


@dataclass(frozen=True)
class Plan:
    """All runs of a comparison.

    Attributes:
        base: what all runs share.
        arms: at each saving.
        saved: the savings.
        seeds: the seeds.
        out: the folder.
    """

    base: ResolvedOptions
    arms: tuple[Arm, ...]
    saved: tuple[float, ...]
    seeds: tuple[int, ...]
    out: Path

    def runs(self) -> list[Run]:
        """Return every run: seed by seed, so that what is done early can be compared already."""
        return [
            Run(arm, seed, replace(arm.options, seed=seed, out=str(self._folder(arm, seed))))
            for seed in self.seeds
            for arm in sorted(self.arms, key=lambda arm: arm.name != FULL)
        ]

    def _folder(self, arm: Arm, seed: int) -> Path:
        return self.out / "runs" / f"{arm.label}-{seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """What must be equal for two comparisons to be one: the options that all runs share."""
        shared = {
            name: value for name, value in asdict(as_given(self.base)).items() if name not in NOT_SHARED
        }
        return json.loads(json.dumps(shared))  # type: ignore[no-any-return]

    def check_folder(self) -> None:
        """Raise where the folder holds something else, or runs with other settings.

        Raises:
            InvalidValue: naming each setting that differs.
        """
        path = self.out / "compare.json"
        if path.exists():
            before = read_settings(path)
            self._refuse(f"{self.out} holds", _differences(before, self.settings))
        elif self.out.exists() and not (self.out.is_dir() and _is_ours(self.out)):
            step = "Name another folder."
            raise invalid("The out folder must be new, empty or a comparison's.", self.out, step)
        for run in self.runs():
            if run.path.exists():
                self._refuse_other_run(run)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make the folder or go on in it; a run that was stopped before its first epoch ended is removed.

        Inside the block no second comparison can train in the folder.

        Raises:
            DamagedData: where no state of a run is sound that had come further.
            InvalidValue: where it cannot be made.
            WrongState: where another process trains in it.
        """
        check_folder(self.out / "runs", self.out)
        try:
            (self.out / "runs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise invalid("The out folder must be writable.", f"{self.out}: {error.strerror}") from None
        with open_lock(self.out / _LOCK) as lock:
            _take(lock, self.out)
            text = json.dumps({"format": FORMAT, "options": self.settings}, indent=2) + "\n"
            RunDirectory(self.out).write_text(self.out / "compare.json", text)
            for run in self.runs():
                if run.path.exists() and run.summary() is None and not run.begun:
                    _remove(run.path)
            yield

    def _refuse_other_run(self, run: Run) -> None:
        """Raise where a run of this name was trained with other options."""
        path = RunDirectory(run.path).config_path
        if not path.exists():
            return
        before = read_config(path)
        now = {name: value for name, value in asdict(as_given(run.options)).items() if value is not None}
        for name in ("out", *named(session=True)):
            before.pop(name, None)
            now.pop(name, None)
        found, policy = run.summary(), make_policy(run.options)
        for name in _defaults(run, found):
            if now.get(name) in (None, "auto"):  # not given now either
                before.pop(name, None)
                now.pop(name, None)
        shown = None if found is None else found.summary.policy
        same = shown is not None and _is_rule(shown, policy)
        for name in _DIALS if same else ():  # of the same rule, whichever of them it was made from
            before.pop(name, None)
            now.pop(name, None)
        self._refuse(f"{run.path} holds", _differences(before, now))
        if shown is not None and not same:  # of a version with other defaults
            self._refuse(f"{run.path} holds", [f"{shown}, now {policy}"])

    @staticmethod
    def _refuse(what: str, differences: list[str]) -> None:
        if differences:
            rule = "A comparison goes on with the settings that it began with."
            step = "Name another folder with --out, or repeat the settings."
            raise invalid(rule, f"{what} {'; '.join(differences)}", step)


def _defaults(run: Run, found: Finished | None) -> frozenset[str]:
    """Return the options in ``config.yaml`` that were not given and hang on the data and the others."""
    if found is not None:
        return ON_DATA & set(found.summary.used.by_default)
    state = RunDirectory(run.path).checkpoints.newest().found
    return ON_DATA if state is None else ON_DATA & set(state.about.defaults)


def _remove(path: Path) -> None:
    """Remove a run that has nothing to lose, and that nobody writes in."""
    if RunDirectory(path).epochs():
        step = "Put back a copy of the folder, or remove it to have the run trained anew."
        raise damaged(f"{path} must hold a sound state.", "none", step)
    with RunLock(path):
        shutil.rmtree(path)


def _is_rule(shown: str, policy: Policy) -> bool:
    """Return whether ``shown`` is how a policy like this was written, by this version or one before it.

    A field that was not there yet counts as its default, which leaves things as they were.

    >>> from fallow import Fraction
    >>> _is_rule("Fraction(fraction=0.5, exponent=2.0)", Fraction(0.5, exponent=2))
    True
    >>> _is_rule("Fraction(fraction=0.5)", Fraction(0.5, exponent=2))
    False
    """
    kind, before = _parsed(shown)
    name, now = _parsed(repr(policy))
    defaults = {field.name: repr(field.default) for field in fields(policy)}  # type: ignore[arg-type]
    return kind == name and now == defaults | before


def _parsed(shown: str) -> tuple[str, dict[str, str]]:
    """Return the class and the fields of an object, as they are written; no fields where it is none."""
    try:
        call = ast.parse(shown, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return shown, {}
    if not isinstance(call, ast.Call):
        return shown, {}
    return ast.unparse(call.func), {str(word.arg): ast.unparse(word.value) for word in call.keywords}


def _is_ours(folder: Path) -> bool:
    """Return whether a folder without settings holds at most what is made just before they are written."""
    return {path.name for path in folder.iterdir()} <= {_LOCK, "runs"}


def _take(lock: IO[str], folder: Path) -> None:
    """Lock a file until it is closed, where the system can."""
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ModuleNotFoundError:  # Windows
        return
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        step = "Wait for it, or name another folder."
        raise wrong_state(f"Another process trains in {folder}.", step) from None


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return ``epochs 20, now 30`` for each option that differs.

    >>> _differences({"epochs": 20, "low": 0.1}, {"epochs": 30})
    ['epochs 20, now 30', 'low 0.1, now not set']
    """
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name} {_shown(before, name)}, now {_shown(now, name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _shown(options: dict[str, Any], name: str) -> Any:
    value = options.get(name)
    return "not set" if value is None else value
