"""Run a comparison: from its options to its results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import check_flag, check_integer, invalid, invalid_type, missing_extra, unknown_name
from ..options.checks import check
from ..options.resolve import as_given, resolve
from ..options.resume_options import located
from ..options.train_options import TrainOptions
from ..report.charts import save_frontier
from ..runs.directory import RunDirectory
from ..spelling import plural
from ..terminal.streams import complain, say_json
from .arms import CONTROLS, FEWER, FULL, THIN, full_arm
from .choosing import RATES, SEEDS, TUNE
from .course import Course
from .forecast import forecast
from .measure import gains
from .options import NOT_SHARED, CompareOptions, read_arms, read_saved, read_seeds
from .plan import Plan
from .pool import Pool, Probe
from .results import gather
from .sentences import NEAR, sentences, verdict

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
    saved: Any = CompareOptions.saved,
    seeds: Any = 5,
    out: str | Path | None = None,
    rates: bool = False,
    tune: bool = False,
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
        saved: the shares of full training's samples that an arm saves, in (0, 1); ``"auto"`` for the saving
            that is found by the arms that find their share themselves.
        seeds: their number k, for 0 to k-1, or a list.
        out: the folder; ``comparisons/DATA`` by default.
        rates: choose the learning rate of each arm first, on held-out training samples.
        tune: choose the length of full training first, in the same way.
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
    options = CompareOptions(
        arms=arms, saved=saved, seeds=seeds, out=folder, rates=rates, tune=tune, jobs=jobs
    )
    comparison = run_comparison(options, TrainOptions(data=data, **train_options), silent=silent)
    assert comparison is not None  # only a dry run has none
    return comparison


def make_course(
    options: CompareOptions, base: TrainOptions, say: Callable[[str], None] = lambda text: None
) -> Course:
    """Return the course of a comparison, after all checks that need no data.

    Raises:
        InvalidValue: if an option is invalid.
    """
    checked = check(base)
    # The epochs are fixed here: an arm's policy must not choose a default of its own.
    shared = resolve(replace(as_given(checked), epochs=checked.epochs, data=located(checked.data)))
    if options.jobs is not None:
        check_integer("jobs", options.jobs, 1)
    choices = {name: check_flag(name, getattr(options, name)) for name in (TUNE, RATES)}
    seeds = read_seeds(options.seeds)
    if any(choices.values()) and (own := sorted(set(seeds) & set(SEEDS))):
        raise invalid("--tune and --rates choose by seeds that no run has.", own[0], "Name other --seeds.")
    name = shared.data.replace(":", ".").strip("/").split("/")[-1]
    return Course(
        read_arms(options.arms),
        shared,
        read_saved(options.saved),
        seeds,
        Path(options.out or f"comparisons/{name}"),
        tuple(name for name, asked in choices.items() if asked),
        say,
    )


def run_comparison(options: CompareOptions, base: TrainOptions, *, silent: bool = False) -> Comparison | None:
    """Train or resume the runs that are not finished, and write and print results; None after a dry run."""
    try:
        from .console import Console
    except ModuleNotFoundError as error:
        raise missing_extra("`fallow compare`", str(error.name)) from None
    console = Console.here(on_stderr=options.json, silent=silent or options.quiet)
    course = make_course(options, base, console.line)
    for package, purpose in (("scipy", "An interval"), ("matplotlib", "The chart")):
        if find_spec(package) is None:  # both are needed only after all runs are trained
            raise missing_extra(purpose, package)
    course.folder.check()
    plans = course.ahead()
    for plan in plans:
        plan.check()
    plan, failed, jobs = plans[-1], dict[str, str](), options.jobs
    console.line(_opening(course, plan))
    if most := max(len(plan.missing()) for plan in plans):
        with Pool(jobs, most, on_cpu=base.accelerator == "cpu") as pool:
            jobs = pool.jobs
            probe, seconds = _forecast(course, pool, console)
            if not options.dry_run:
                plan, failed = _train(course, pool, probe, seconds, console)
    if options.dry_run:
        return None
    for name, reason in failed.items() if options.quiet else ():
        complain(f"fallow: {name} failed: {reason}")
    comparison = _finish(plan, jobs, failed)
    _show(comparison, console, as_json=options.json)
    if left := _left_out(plan):
        console.line(left)
    return comparison


def _forecast(course: Course, pool: Pool, console: Any) -> tuple[Probe, float | None]:
    """Build every arm, and print what will be trained and how long that takes."""
    first = full_arm(replace(course.base, seed=course.seeds[0]))
    arms = [replace(arm, options=replace(arm.options, seed=course.seeds[0])) for arm in course.checked_arms()]
    probe = pool.probe(first, arms, PROBE_SECONDS)
    if course.folder.found.full is None:
        course.folder.keep(full=probe.full)
    course.check_rate()
    plans = course.ahead()
    lines, seconds = forecast(plans, probe, int(pool.jobs or 1))
    for line in filter(None, (*lines, _rounded_savings(plans[-1]), *probe.notes)):
        console.line(line)
    return probe, seconds


def _train(
    course: Course, pool: Pool, probe: Probe, seconds: float | None, console: Any
) -> tuple[Plan, dict[str, str]]:
    """Train stage by stage; return the plan of all runs that are compared, and why runs failed, by name."""
    failed: dict[str, str] = {}
    told = _rounded_savings(course.ahead()[-1])
    try:
        with course.folder.opened():
            for number, plan in enumerate(course.stages()):
                plan.check()
                plan.clear()
                if (note := _rounded_savings(plan)) and note != told:
                    console.line(note)  # of controls whose saving has just been found
                missing = plan.missing()
                # The pace of a later stage shows soon enough.
                known = None if number else seconds
                console.begin(missing, plan.part * probe.full.samples, known, len(plan.runs()) - len(missing))
                for event in pool.train(missing):
                    console.happened(event)
                    if event.kind == "failed":
                        failed[event.run.name] = event.reason
                console.end()
    except KeyboardInterrupt:
        # The sentence must not be drawn between moving bars.
        console.end()
        runs = [run for plan in course.ahead() for run in plan.runs()]
        every = {run.path: run for run in runs}.values()
        done = sum(run.summary() is not None for run in every)
        console.line(
            f"{done} of {plural(len(every), 'run')} {'is' if done == 1 else 'are'} done; "
            "repeat the command to resume."
        )
        raise
    finally:
        console.end()
    return plan, failed


def _opening(course: Course, plan: Plan) -> str:
    runs = plan.runs()
    arms = ", ".join(dict.fromkeys(arm.name for arm in plan.arms))
    saved = f"{', '.join(f'{100 * share:g} %' for share in plan.saved)} saved; " if plan.saved else ""
    if course.saved is None and course.known_saving is None:
        saved = f"as much saved as {', '.join(course.finders)} will find; "
    missing = len(plan.missing())
    done = f", {len(runs) - missing} of them done" if missing < len(runs) else ""
    return (
        f"{plan.base.data}: {arms}; {saved}{plural(len(plan.seeds), 'seed')}: "
        f"{plural(len(runs), 'run')}{done}, in {plan.out}"
    )


def _rounded_savings(plan: Plan) -> str:
    """Return a sentence for each control of whole epochs that saves another share than asked for."""
    notes = []
    names = {arm.name for arm in plan.arms}
    for arm in plan.arms:
        # The thinned control has the same epochs.
        if arm.saved is not None and arm.name == (FEWER if FEWER in names else THIN):
            left, full = arm.options.epochs, plan.base.epochs
            saved = 1 - left / full
            if abs(saved - arm.saved) > NEAR:
                share = f"only {100 * saved:.0f} %" if left < full else "nothing"
                notes.append(f"{arm.label} saves {share}: {left} of {plural(full, 'epoch')}.")
    return " ".join(notes)


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
        f"{plural(len(others), 'finished run')} of other arms, savings or seeds {lie} in the folder "
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
