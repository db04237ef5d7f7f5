"""Run a comparison: from its options to its results."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import check_integer, invalid, invalid_type, missing_extra, unknown_name
from ..options.checks import check
from ..options.resolve import as_given, resolve
from ..options.resume_options import located
from ..options.train_options import TrainOptions
from ..report.charts import save_frontier
from ..runs.directory import RunDirectory
from ..terminal.streams import say_json
from .arms import CONTROLS, FEWER, FULL, full_arm, make_arms
from .measure import gains
from .options import NOT_SHARED, CompareOptions, read_arms, read_saved, read_seeds
from .plan import Plan, Run
from .pool import Pool, Probe
from .results import gather
from .sentences import NEAR, counted, sentences, verdict

PROBE_SECONDS = 2.0


@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        results: the content of ``results.json``.
        out: the folder, with ``runs/``, ``results.json``, ``frontier.png`` and ``frontier.svg``.
    """

    results: dict[str, Any]
    out: Path

    @property
    def results_path(self) -> Path:
        """``results.json``."""
        return self.out / "results.json"

    @property
    def chart_path(self) -> Path:
        """``frontier.png``: accuracy, or bits a character, against samples saved."""
        return self.out / "frontier.png"

    @property
    def failed(self) -> list[str]:
        """Names of the runs that failed."""
        return [run["name"] for run in self.results["runs"] if run["status"] == "failed"]

    @property
    def diverged(self) -> list[str]:
        """Names of the runs that diverged."""
        return [run["name"] for run in self.results["runs"] if run.get("diverged")]

    def table(self, width: int = 140) -> str:
        """Return the table as text of at most ``width`` columns."""
        from .console import table_text

        return table_text(self.results, width)

    def sentences(self) -> list[str]:
        """Return the results in sentences."""
        return sentences(self.results)


def compare(
    data: str,
    *,
    arms: Any = CompareOptions.arms,
    saved: Any = (0.5,),
    seeds: Any = 5,
    out: str | Path | None = None,
    jobs: int | None = None,
    silent: bool = False,
    **train_options: Any,
) -> Comparison:
    """Train several arms on the same data with the same seeds, and compare their final epochs.

    The same as ``fallow compare``; runs that are finished in ``out`` are not trained again.

    Args:
        data: as for ``fallow train``.
        arms: names, or a mapping from the name of your own arm to options of ``fallow train`` (None for a
            known arm).
        saved: the shares of full training's samples that an arm saves, in (0, 1).
        seeds: their number k, for 0 to k-1, or a list.
        out: the folder; ``comparisons/DATA`` by default.
        jobs: runs at a time; by default one a core, and 1 on an accelerator.
        silent: print nothing.
        **train_options: of ``fallow train``, for all arms.

    Raises:
        InvalidValue, InvalidType: if an argument is invalid, before the first run.
    """
    unknown = sorted(train_options.keys() & NOT_SHARED)
    if unknown:
        raise invalid("An option must be shared by all arms.", unknown[0], "Set it in an arm of your own.")
    known = {field.name for field in fields(TrainOptions)} - NOT_SHARED
    for name in train_options:
        if name not in known:
            raise unknown_name("option", name, known)
    if not isinstance(out, str | PathLike | None):
        raise invalid_type("`out` must be a path.", repr(out))
    folder = None if out is None else str(out)
    options = CompareOptions(arms=arms, saved=saved, seeds=seeds, out=folder, jobs=jobs)
    comparison = run_comparison(options, TrainOptions(data=data, **train_options), silent=silent)
    assert comparison is not None  # only a dry run has none
    return comparison


def make_plan(options: CompareOptions, base: TrainOptions) -> Plan:
    """Return the plan of a comparison, after all checks that need no data.

    Raises:
        InvalidValue: if an option is invalid.
    """
    checked = check(base)
    # The epochs are fixed here: an arm's policy must not choose a default of its own.
    shared = resolve(replace(as_given(checked), epochs=checked.epochs, data=located(checked.data)))
    if options.jobs is not None:
        check_integer("jobs", options.jobs, 1)
    saved, seeds = read_saved(options.saved), read_seeds(options.seeds)
    name = shared.data.replace(":", ".").strip("/").split("/")[-1]
    out = Path(options.out or f"comparisons/{name}")
    return Plan(shared, tuple(make_arms(read_arms(options.arms), saved, shared)), saved, seeds, out)


def run_comparison(options: CompareOptions, base: TrainOptions, *, silent: bool = False) -> Comparison | None:
    """Train or resume the runs that are not finished, and write and print results; None after a dry run."""
    try:
        from .console import Console
    except ModuleNotFoundError as error:
        raise missing_extra("`fallow compare`", str(error.name)) from None
    plan = make_plan(options, base)
    console = Console.here(on_stderr=options.json, silent=silent)
    for package, purpose in (("scipy", "An interval"), ("matplotlib", "The chart")):
        if find_spec(package) is None:  # both are needed only after all runs are trained
            raise missing_extra(purpose, package)
    plan.check_folder()
    runs = plan.runs()
    missing = [run for run in runs if run.summary() is None]
    failed: dict[str, str] = {}
    jobs = options.jobs
    console.line(_opening(plan, runs, missing))
    if missing:
        with Pool(jobs, max(1, len(missing)), on_cpu=base.accelerator == "cpu") as pool:
            jobs = pool.jobs
            failed = _train(plan, missing, pool, console, dry=options.dry_run)
    if options.dry_run:
        return None
    comparison = _finish(plan, jobs, failed)
    _show(comparison, console, as_json=options.json)
    if left := _left_out(plan):
        console.line(left)
    return comparison


def _train(plan: Plan, missing: list[Run], pool: Pool, console: Any, *, dry: bool) -> dict[str, str]:
    """Probe, print the expected time and train; return why runs failed, by name."""
    first = full_arm(replace(plan.base, seed=plan.seeds[0]))
    arms = [replace(arm, options=replace(arm.options, seed=plan.seeds[0])) for arm in plan.arms]
    probe = pool.probe(first, arms, PROBE_SECONDS)
    seconds = expected_seconds(missing, probe, int(pool.jobs or 1))
    console.line(_forecast(missing, probe, int(pool.jobs or 1), seconds))
    for note in filter(None, (_rounded_savings(plan), *probe.notes)):
        console.line(note)
    if dry:
        return {}
    failed: dict[str, str] = {}
    try:
        with plan.opened():
            console.begin(missing, probe.n, seconds, len(plan.runs()) - len(missing))
            for event in pool.train(missing):
                console.happened(event)
                if event.kind == "failed":
                    failed[event.run.name] = event.reason
    except KeyboardInterrupt:
        # The sentence must not be drawn between moving bars.
        console.end()
        done = sum(run.summary() is not None for run in plan.runs())
        console.line(
            f"{done} of {counted(len(plan.runs()), 'run')} {'is' if done == 1 else 'are'} done; "
            "repeat the command to resume."
        )
        raise
    finally:
        console.end()
    return failed


def expected_seconds(missing: list[Run], probe: Probe, jobs: int) -> float | None:
    """Return about how long training and evaluations take, at the rates of the probe."""
    if not probe.rates:
        return None
    from .console import weight

    samples = sum(weight(run, probe.n) for run in missing)
    evaluations = sum(run.options.epochs for run in missing) * probe.test_seconds
    together = samples / sum(probe.rates) + evaluations / jobs
    # With few runs left, the longest one decides.
    rate = sum(probe.rates) / len(probe.rates)
    alone = (weight(run, probe.n) / rate + run.options.epochs * probe.test_seconds for run in missing)
    return max([together, *alone])


def _opening(plan: Plan, runs: list[Run], missing: list[Run]) -> str:
    arms = ", ".join(dict.fromkeys(arm.name for arm in plan.arms))
    saved = ", ".join(f"{100 * share:g} %" for share in plan.saved)
    done = f", {len(runs) - len(missing)} of them done" if len(missing) < len(runs) else ""
    return (
        f"{plan.base.data}: {arms}; {saved} saved; {counted(len(plan.seeds), 'seed')}: "
        f"{counted(len(runs), 'run')}{done}, "
        f"in {plan.out}"
    )


def _rounded_savings(plan: Plan) -> str:
    """Return a sentence for each control of whole epochs that saves another share than asked for."""
    notes = []
    for arm in plan.arms:
        if arm.name == FEWER and arm.saved is not None:
            left, full = arm.options.epochs, plan.base.epochs
            saved = 1 - left / full
            if abs(saved - arm.saved) > NEAR:
                share = f"only {100 * saved:.0f} %" if left < full else "nothing"
                notes.append(f"{arm.label} saves {share}: {left} of {counted(full, 'epoch')}.")
    return " ".join(notes)


def _forecast(missing: list[Run], probe: Probe, jobs: int, seconds: float | None) -> str:
    from .console import duration, weight

    samples = sum(weight(run, probe.n) for run in missing)
    text = f"{counted(len(missing), 'run')}, {samples:,.0f} samples to train on, {jobs} at a time: "
    if seconds is None:
        return f"{text}an epoch is too short to tell how long it takes."
    long = "less than half a minute" if seconds < 20 else f"about {duration(seconds)}"
    return f"{text}{long} at {sum(probe.rates):,.0f} samples a second."


def _left_out(plan: Plan) -> str:
    """Return a sentence on finished runs of other arms or seeds in the folder; empty if there are none."""
    shown = {run.path.name for run in plan.runs()}
    folder = plan.out / "runs"
    finished = sorted(path.parent.name for path in folder.glob("*/usage.svg")) if folder.is_dir() else []
    others = [name for name in finished if name not in shown]
    if not others:
        return ""
    lie, are = ("lies", "is") if len(others) == 1 else ("lie", "are")
    return (
        f"{counted(len(others), 'finished run')} of other arms, savings or seeds {lie} in the folder "
        f"and {are} not shown ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''}): "
        "name them in --arms, --saved and --seeds."
    )


def _finish(plan: Plan, jobs: int | None, failed: dict[str, str]) -> Comparison:
    """Write results and chart."""
    results = gather(plan, jobs, failed)
    for row in results["arms"]:
        row["verdict"] = None if row["arm"] in (FULL, *CONTROLS) else verdict(gains(row))
    results["sentences"] = sentences(results)
    comparison = Comparison(results, plan.out)
    text = json.dumps(results, indent=1) + "\n"
    RunDirectory(plan.out).write_text(comparison.results_path, text)
    if any(row[results["measure"]]["mean"] is not None for row in results["arms"]):
        save_frontier(results, plan.out)
    return comparison


def _show(comparison: Comparison, console: Any, *, as_json: bool) -> None:
    if as_json:
        say_json(json.dumps(comparison.results, indent=1))
        return
    console.line()
    console.table(comparison.results)
    console.line()
    for sentence in comparison.sentences():
        console.line(sentence)
    console.line()
    console.line(f"Results: {comparison.results_path}")
    if comparison.chart_path.exists():
        console.line(f"Chart:   {comparison.chart_path}")
