"""The one form of error: the rule, the value found, the next step."""

import numpy as np
import pytest
import torch

from fallow.errors import (
    FallowError,
    InvalidType,
    InvalidValue,
    WrongState,
    check_integer,
    check_share,
    invalid,
    invalid_type,
    missing_extra,
    unknown_name,
    wrong_state,
)


@pytest.mark.parametrize(
    ("error", "kind", "builtin"),
    [
        (invalid("Rule.", 3, "Step."), InvalidValue, ValueError),
        (invalid_type("Rule.", 3, "Step."), InvalidType, TypeError),
    ],
)
def test_an_error_has_rule_value_and_step(error, kind, builtin):
    assert isinstance(error, kind)
    assert isinstance(error, builtin)
    assert isinstance(error, FallowError)
    assert str(error) == "Rule. Found 3. Step."


def test_an_error_without_a_step_ends_with_the_value():
    assert str(invalid("Rule.", 3)) == "Rule. Found 3."


def test_a_wrong_state_says_what_to_do():
    error = wrong_state("The epoch has ended.", "Call step().")
    assert isinstance(error, WrongState)
    assert isinstance(error, RuntimeError)
    assert str(error) == "The epoch has ended. Call step()."


def test_an_unknown_name_is_guessed_when_one_is_near():
    assert "Did you mean 'threshold'?" in str(unknown_name("policy", "Treshold", ["fraction", "threshold"]))
    far = str(unknown_name("policy", "zzz", ["fraction", "threshold"]))
    assert "Did you mean" not in far
    assert far.endswith("Known: fraction, threshold.")


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers(value):
    found = check_integer("n", value, 3)
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize(
    "value",
    [
        3.0,
        True,
        np.True_,
        "3",
        None,
        np.float32(3),
        torch.tensor(3.5),
        np.array([3, 4]),
        torch.tensor([3, 4]),
    ],
)
def test_what_is_no_whole_number(value):
    with pytest.raises(InvalidType, match=r"^`n` must be a whole number\. Found "):
        check_integer("n", value, 0)


def test_a_number_too_small():
    with pytest.raises(InvalidValue, match=r"^`n` must be at least 4\. Found 3\. Mend it\.$"):
        check_integer("n", 3, 4, "Mend it.")


@pytest.mark.parametrize("value", [0, 0.0, 0.25, np.float32(0.25), np.float64(0.25)])
def test_shares(value):
    found = check_share("f", value, closed=False)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize("value", [-1e-9, 1.0, 1.5, float("nan"), float("inf")])
def test_what_is_outside_a_half_open_share(value):
    with pytest.raises(InvalidValue, match=r"^`f` must be in \[0, 1\)\. Found "):
        check_share("f", value, closed=False)


def test_a_closed_share_may_be_1():
    assert check_share("f", 1, closed=True) == 1.0
    with pytest.raises(InvalidValue, match=r"in \[0, 1\]"):
        check_share("f", 1.0001, closed=True)


@pytest.mark.parametrize("value", ["0.3", b"0.3", None, True, [0.3], np.array([0.1, 0.2])])
def test_what_is_no_share(value):
    with pytest.raises(InvalidType, match=r"^`f` must be in \[0, 1\)\. Found "):
        check_share("f", value, closed=False)


def test_a_missing_extra_names_the_command():
    error = missing_extra("usage.png", "matplotlib")
    assert isinstance(error, ModuleNotFoundError)
    assert 'pip install "fallow[all]"' in str(error)
