"""Labels that look wrong, and what the training data lack."""

from __future__ import annotations

from msgspec import structs

from ..report import gaps as report_gaps
from ..report.text import name
from ..runs.schema import GapCard, GapSample
from ..runs.suspects import find_suspects
from ..runs.ticks_file import found_by_gap, read_ticks
from . import answers
from .call import Call
from .errors import nothing
from .overview import source_of
from .places import last_part, named

_COPIES, _ALIKE, _PAIRS = 100, 20, 100


def suspects(call: Call) -> answers.Suspects:
    """Return the samples whose labels look wrong, the surest first."""
    run = call.run()
    source = source_of(run)
    found = find_suspects(run, call.ask.count)
    copies = found.copies
    return answers.Suspects(
        found=found.found,
        samples=found.samples,
        epochs=found.epochs,
        suspects=[
            answers.SuspectRow(
                index=one.index,
                file=named(one.file, source.folder),
                given=name(one.given),
                suggested=None if one.suggested is None else name(one.suggested),
                confidence=one.confidence,
                picture=run.has_picture(one.index),
                text=run.text(one.index),
            )
            for one in found.suspects
        ],
        pairs=[
            answers.Pair(given=name(one.given), suggested=name(one.suggested), count=one.count)
            for one in found.pairs[:_PAIRS]
        ],
        copies=None
        if copies is None
        else [
            [
                answers.CopyRow(index=one.index, file=named(one.file, source.folder), given=name(one.given))
                for one in group[:_ALIKE]
            ]
            for group in copies[:_COPIES]
        ],
    )


def gaps(call: Call) -> answers.Gaps:
    """Return the last result of ``fallow gaps``."""
    run = call.run()
    file = run.gaps
    if file is None:
        raise nothing("The run has no list of gaps. Make one: fallow gaps RUN.")
    found = file.gaps
    source = source_of(run)
    reference = found.reference
    folders = {"training": source.folder, "reference": source.folder if reference is None else reference}

    def sample(one: GapSample) -> GapSample:
        picture = one.picture if file.pictures is not None else None
        return structs.replace(one, file=named(one.file, folders[one.of]), picture=picture)

    def card(one: GapCard, number: int, word: str) -> GapCard:
        return structs.replace(
            one,
            name=one.name or f"{word} {number}",
            reason=run.places.hidden(one.reason),
            examples=[sample(each) for each in one.examples[:40]],
            prototypes=[sample(each) for each in one.prototypes[:40]],
            trend=one.trend[-400:],
        )

    most = report_gaps.CARDS
    return answers.Gaps(
        sentence=run.places.hidden(report_gaps.sentence(source, found)),
        stale=report_gaps.stale(source, found),
        reference=None if reference is None else name(last_part(reference)),
        gaps=[card(one, number, "gap") for number, one in enumerate(found.gaps[:most], 1)],
        thin=[card(one, number, "thin") for number, one in enumerate(found.thin[:most], 1)],
        alone=[sample(one) for one in found.alone[:500]],
        strange=[sample(one) for one in found.strange[:500]],
        before=found.before,
        found=found_by_gap(read_ticks(run.directory.path)),
    )
