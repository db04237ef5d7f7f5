"""More samples than a machine has memory for are refused before any is taken."""

import pytest

from fallow import Schedule, Subsampler, Threshold
from fallow.core.memory import PLANNING, ROW, check_memory, installed_memory
from fallow.errors import InvalidValue

TOO_MANY = r"their table takes 10,000 GB. Found .* GB in this machine. Check `n`"


def test_what_does_not_fit_is_refused():
    with pytest.raises(InvalidValue, match=TOO_MANY):
        Subsampler(10**12, Threshold(low=0.1), Schedule(epochs=2))
    sub = Subsampler(8, Threshold(low=0.1), Schedule(epochs=2))
    with pytest.raises(InvalidValue, match="takes 10,000 GB"):
        sub.extend(10**12)
    assert sub.n == 8


def test_the_bound_is_what_the_table_takes():
    table = Subsampler(1000, Threshold(low=0.1), Schedule(epochs=2)).under_way.scores.table
    bytes_ = sum(getattr(table, name).nbytes for name in ("scores", "scored_in", "reason", "seen"))
    assert bytes_ == 1000 * ROW
    most = installed_memory() // (ROW + PLANNING)
    check_memory(most)
    with pytest.raises(InvalidValue):
        check_memory(most + 1)


def test_without_a_word_of_the_system_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("fallow.core.memory.installed_memory", lambda: None)
    check_memory(10**12)
