"""Runs side by side, from the files of each."""

from __future__ import annotations

from dataclasses import asdict

from ..comparison.side_by_side import compared
from . import answers
from .call import Call
from .errors import wrong
from .overview import number
from .served_run import ServedRun

_POINTS = 400


def compare(call: Call) -> answers.Comparison:
    """Return two to eight runs side by side."""
    ids = call.ask.run
    if len(set(ids)) < len(ids):
        raise wrong("`run` must name each run once.")
    runs = [call.catalog.fresh(one) for one in ids]
    found = compared(runs)
    # Their names are unique among them; those of the files are ends of paths.
    names = {run.name: run.name for run in found.runs}
    facts = []
    for run_id, each in zip(ids, found.runs, strict=True):
        plain = asdict(each)
        plain.pop("path")
        plain["seconds"] = number(plain["seconds"])
        facts.append(answers.RunFacts(id=run_id, **{**plain, "name": names[each.name]}))

    def overlap(one: object) -> answers.Overlap | None:
        return None if one is None else answers.Overlap(**asdict(one))  # type: ignore[call-overload]

    def hidden(value: object) -> object:
        for run in runs:
            value = run.places.hidden_in(value)
        return value

    return answers.Comparison(
        runs=facts,
        settings={
            str(hidden(name)): [hidden(value) for value in row] for name, row in found.settings.items()
        },
        pairs=[
            answers.OverlapPair(
                first=pair.first,
                second=pair.second,
                reason=None if pair.reason is None else str(hidden(pair.reason)),
                last=overlap(pair.last),
                all=overlap(pair.all),
                epochs=pair.epochs,
                outliers=overlap(pair.outliers),
            )
            for pair in found.pairs
        ],
        remarks=[str(hidden(remark)) for remark in found.remarks],
        curves=[_curve(run_id, run) for run_id, run in zip(ids, runs, strict=True)],
    )


def _curve(run_id: str, run: ServedRun) -> answers.Curve:
    """Return what a run reached after each epoch, against the samples that it had trained on until then."""
    rows = run.reached
    of_bits = any(row.bits_per_character is not None for row in rows)
    metric = "bits_per_character" if of_bits else "accuracy"
    total, points = 0, list[tuple[int, float]]()
    for row in rows:
        total += row.samples_backward or 0
        if (value := number(getattr(row, metric))) is not None:
            points.append((total, value))
    step = -(-len(points) // _POINTS) or 1
    return answers.Curve(id=run_id, metric=metric, points=points[::-1][::step][::-1])
