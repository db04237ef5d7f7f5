"""Lists of samples to collect, and the one thing that the server writes: what was collected."""

from __future__ import annotations

import errno
import re
from datetime import UTC, datetime
from pathlib import Path

from ..errors import DamagedData, FallowError
from ..report.text import name, passage
from ..runs.picks_file import Pick, read_rows
from ..runs.ticks_file import Tick, add_tick, found_by_pick, read_ticks
from . import answers
from .call import Call
from .errors import Refused, nothing, unknown, wrong
from .places import named
from .served_run import ServedRun

_LIST = re.compile(r"picks-[0-9]{1,6}\.csv")
_LISTS, _PICKS = 20, 5_000
"""The newest lists that are shown, and the most picks of one."""


def picks(call: Call) -> answers.Picks:
    """Return the lists of samples to collect, the newest first."""
    run = call.run()
    found = found_by_pick(read_ticks(run.directory.path))
    lists = []
    for path in _lists(run)[:_LISTS]:
        damage, rows = None, list[Pick]()
        try:
            rows = _picks(run, path)
        except FallowError as error:
            damage = run.places.hidden(str(error))
        lists.append(
            answers.PickList(
                id=path.stem,
                damage=damage,
                picks=[
                    _row(place, pick, found.get((path.stem, pick.checksum)))
                    for place, pick in enumerate(rows[:_PICKS])
                ],
            )
        )
    return answers.Picks(lists=lists)


def _lists(run: ServedRun) -> list[Path]:
    """Return the lists in the run, the newest first."""
    folder = run.directory.path
    return sorted((path for path in folder.iterdir() if _LIST.fullmatch(path.name)), reverse=True)


def _picks(run: ServedRun, path: Path) -> list[Pick]:
    return [pick for _, pick in read_rows(path, run.directory.path)]


def _row(place: int, pick: Pick, found: int | None) -> answers.PickRow:
    return answers.PickRow(
        place=place,
        index=min(pick.index, (1 << 53) - 1),
        label=name(pick.label),
        score=pick.score,
        region=name(pick.region),
        reason=passage(pick.reason, 500),
        file=named(pick.file, pick.pool) or "",
        checksum=pick.checksum,
        found=found,
    )


def tick(call: Call) -> answers.Ticked:
    """Write down what was found of a pick or a gap.

    Raises:
        Refused: if it names neither or both, or one that does not exist; 507 if it could not be written.
    """
    run, ask = call.run(), call.ask
    if (ask.gap is None) == (ask.list is None) or (ask.list is None) != (ask.place is None):
        raise wrong("A tick must name a gap, or a list and a place in it.")
    checksum = None
    if ask.gap is not None:
        if run.gaps is None:
            raise nothing("The run has no list of gaps. Make one: fallow gaps RUN.")
        names = [one.name or f"gap {number}" for number, one in enumerate(run.gaps.gaps.gaps, 1)]
        if ask.gap not in names:
            raise unknown("The gap", ask.gap)
    else:
        path = next((path for path in _lists(run) if path.stem == ask.list), None)
        if path is None:
            raise unknown("The list", ask.list)
        rows = _picks(run, path)
        if ask.place >= len(rows):
            raise unknown("The place", f"{ask.place:,} of {len(rows):,}")
        checksum = rows[ask.place].checksum
    at = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    line = Tick(
        at=at, found=ask.found, list=ask.list, place=ask.place, checksum=checksum, gap=ask.gap, note=ask.note
    )
    try:
        add_tick(run.directory.path, line)
    except DamagedData as error:
        raise Refused(507, "full", run.places.hidden(str(error))) from None
    except OSError as error:
        why = errno.errorcode.get(error.errno or 0, "unknown")
        raise Refused(
            507, "full", f"The tick could not be written ({why}). Free some space, or check the rights."
        ) from None
    return answers.Ticked(at=at, found=ask.found)
