"""What is still to be trained, and about how long that takes."""

from __future__ import annotations

from collections.abc import Sequence

from ..spelling import plural
from .arms import FULL
from .choosing import RATES, TUNE
from .folder import RUNS
from .plan import Plan, Run
from .pool import Probe

_CHOICES = {
    TUNE: "--tune, to choose the length of full training",
    RATES: "--rates, to choose the learning rate of each arm",
}


def forecast(plans: Sequence[Plan], probe: Probe, jobs: int) -> tuple[list[str], float | None]:
    """Return sentences on the stages that are not done, and the seconds that they take together.

    Args:
        plans: the stages as they are known now; the last one has all runs that are compared.
        probe: a short training.
        jobs: runs at a time.
    """
    choices = [plan for plan in plans if plan.place != RUNS and plan.missing()]
    lines, seconds = [], []
    for place in dict.fromkeys(plan.place for plan in choices):
        stages = [plan for plan in choices if plan.place == place]
        text, needed = _cost(stages, probe, jobs)
        lines.append(f"{_CHOICES[place]}: {text}")
        seconds.append(needed)
    if plans[-1].missing():
        text, needed = _cost(plans[-1:], probe, jobs)
        lines.append(text)
        seconds.append(needed)
    known = [each for each in seconds if each is not None]
    together = sum(known) if len(known) == len(seconds) else None
    if choices and together is not None:
        lines.append(f"All of this takes {_about(together)}.")
    return lines, together


def _cost(plans: Sequence[Plan], probe: Probe, jobs: int) -> tuple[str, float | None]:
    """Return a sentence on the runs that are missing, and the seconds that they take."""
    # An arm may be in several stages.
    by_path = {run.path: (run, plan.part * probe.full.samples) for plan in plans for run in plan.missing()}
    missing = list(by_path.values())
    samples = sum(weight(run, n) for run, n in missing)
    most = "at most " if any(_may_save_more(run) for run, _ in missing) else ""
    text = f"{plural(len(missing), 'run')}, {most}{samples:,.0f} samples to train on, {jobs} at a time: "
    seconds = expected_seconds(missing, probe, jobs)
    if seconds is None:
        return f"{text}an epoch is too short to tell how long it takes.", None
    return f"{text}{_about(seconds)} at {sum(probe.rates):,.0f} samples a second.", seconds


def _about(seconds: float) -> str:
    return "less than half a minute" if seconds < 20 else f"about {duration(seconds)}"


def _may_save_more(run: Run) -> bool:
    """Return whether a run may train on fewer samples than its :func:`weight`."""
    if run.options.policy == "full":
        return run.arm.saved is None and not run.arm.name.startswith(FULL)
    return run.arm.saved is None and run.options.fraction is None


def expected_seconds(missing: Sequence[tuple[Run, float]], probe: Probe, jobs: int) -> float | None:
    """Return about how long training and evaluations take, at the rates of the probe.

    ``missing`` has each run and its number of training samples.
    """
    if not probe.rates or not missing:
        return None if missing else 0.0
    samples = sum(weight(run, n) for run, n in missing)
    evaluations = sum(run.options.epochs for run, _ in missing) * probe.test_seconds
    together = samples / sum(probe.rates) + evaluations / jobs
    # With few runs left, the longest one decides.
    rate = sum(probe.rates) / len(probe.rates)
    alone = (weight(run, n) / rate + run.options.epochs * probe.test_seconds for run, n in missing)
    return max([together, *alone])


def weight(run: Run, n: float) -> float:
    """Return about how many of ``n`` samples a run will train on, epoch by epoch; at most so many."""
    saved = 0.0 if run.options.policy == "full" else run.arm.saved or run.options.fraction or 0.0
    return run.options.epochs * n * (1 - saved)


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(8), duration(200), duration(12_345)
    ('8 s', '3 min', '3 h 26 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
