"""What the runs of a comparison add up to: differences, verdicts, sentences, table and chart."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from fallow.comparison.console import table_text
from fallow.comparison.forecast import duration
from fallow.comparison.measure import gains
from fallow.comparison.options import CompareOptions
from fallow.comparison.results import gather
from fallow.comparison.running import make_course
from fallow.comparison.sentences import sentences, verdict
from fallow.comparison.statistics import t_quantile
from fallow.comparison.table import rows
from fallow.errors import InvalidValue
from fallow.options.train_options import TrainOptions
from fallow.report.charts.frontier import frontier_chart, save_frontier, spread
from made_up_runs import leave

EPOCHS = 20
NOISE = (0.001, -0.002, 0.0005, 0.0015, -0.001)


def gathered(
    out,
    accuracy,
    saved="0.5",
    seeds=5,
    real=None,
    loss=None,
    failed=(),
    own=None,
    forward=0,
    base=None,
    tested=None,
    bits=False,
    diverged=(),
):
    """Results of runs whose accuracy and saving are made up: `accuracy(arm, saved, seed)`; or their bits."""
    names = dict.fromkeys(["full", "fewer-epochs", "random", "soft"]) | (own or {})
    options = CompareOptions(arms=names, saved=saved, seeds=seeds, out=str(out))
    plan = make_course(options, TrainOptions(data="digits", epochs=EPOCHS, **(base or {}))).first()
    for run in plan.runs():
        if run.name in failed:
            continue
        share = (real or {}).get(run.arm.name, run.arm.saved or 0.0)
        value = accuracy(run.arm.name, run.arm.saved, run.seed)
        more = {"loss": loss, "forward": forward, "tested": tested, "bits": bits}
        leave(run, value, share, epochs=EPOCHS, diverged=run.name in diverged, **more)
    return gather(plan, 2, dict.fromkeys(failed, "why"))


def level(**levels):
    """Accuracies by arm: a level, what a seed does to all arms alike, and a little of its own."""

    def accuracy(arm, saved, seed):
        own = {"full": 0.0, "soft": 0.0003, "random": -0.0002}.get(arm, 0.0001) * (-1) ** seed
        return levels.get(arm.replace("-", "_"), 0.9) + NOISE[seed] + own

    return accuracy


def row(results, arm, saved=0.5):
    return next(r for r in results["arms"] if (r["arm"], r["saved"]) == (arm, saved))


def test_each_arm_is_paired_with_full_training_and_the_controls(tmp_path):
    results = gathered(tmp_path / "c", level(fewer_epochs=0.88, random=0.87))
    soft = row(results, "soft")
    assert soft["n"] == 5
    assert soft["accuracy"]["mean"] == pytest.approx(np.mean(soft["accuracy"]["values"]))
    assert soft["accuracy"]["sd"] == pytest.approx(np.std(soft["accuracy"]["values"], ddof=1))
    assert soft["saved_fraction"] == pytest.approx(0.5)
    d = soft["against"]["fewer-epochs"]
    values = np.subtract(soft["accuracy"]["values"], row(results, "fewer-epochs")["accuracy"]["values"])
    assert d["mean"] == pytest.approx(values.mean())
    assert (d["n"], d["interpolated"], d["control_saved"]) == (5, False, pytest.approx(0.5))
    assert d["high"] - d["low"] < 0.002, "what a seed does to both is taken out"
    assert set(soft["against"]) == {"full", "fewer-epochs", "random"}
    assert row(results, "full", None)["against"] == {}


def test_one_that_saves_less_is_held_against_the_line_between_the_controls(tmp_path):
    curve = {None: 0.90, 0.25: 0.88, 0.5: 0.80}
    results = gathered(
        tmp_path / "c",
        lambda arm, saved, seed: curve[saved if arm in ("fewer-epochs", "random") else None],
        saved="0.25,0.5",
        real={"soft": 0.375},
        own={"mine": {"policy": "threshold"}},
        seeds=3,
    )
    soft = row(results, "soft")["against"]["random"]
    assert soft["interpolated"]
    assert soft["mean"] == pytest.approx(0.90 - 0.84)
    assert not row(results, "soft", 0.25)["against"]["random"]["interpolated"], "it saves more: no help"
    mine = row(results, "mine", None)
    assert mine["against"]["fewer-epochs"]["mean"] == pytest.approx(0.0), "it saved nothing: full training"
    assert "interpolated between the savings" in " ".join(sentences(results))


@pytest.mark.parametrize(
    ("levels", "wanted", "words"),
    [
        ({"fewer_epochs": 0.88, "random": 0.87}, "pays", "It pays: it is 2.0"),
        ({"full": 0.92, "fewer_epochs": 0.88, "random": 0.87}, "pays at a cost", "at a price in accuracy"),
        ({"full": 0.92, "fewer_epochs": 0.9, "random": 0.87}, "does not pay", "fewer epochs do as well"),
        ({"full": 0.94, "fewer_epochs": 0.91, "random": 0.87}, "does not pay", "fewer epochs do better"),
    ],
)
def test_verdicts(levels, wanted, words, tmp_path):
    results = gathered(tmp_path / "c", level(**levels))
    said = sentences(results)
    assert verdict(row(results, "soft")) == wanted
    assert words in said[-1]
    assert said[-1].startswith("soft saves 50 % and is ")


def test_a_wide_interval_settles_nothing(tmp_path):
    def accuracy(arm, saved, seed):
        return 0.9 + (0.02 * (-1) ** seed if arm == "soft" else 0.0)

    results = gathered(tmp_path / "c", accuracy)
    assert verdict(row(results, "soft")) == "not settled"
    assert "More seeds would tell" in sentences(results)[0]


def test_the_control_that_is_named_is_the_one_that_settles_it(tmp_path):
    """Random subsets are lower by their mean, but vary too much to tell; fewer epochs settle it."""

    def accuracy(arm, saved, seed):
        wild = 0.02 * (-1) ** seed + 0.01 if arm == "random" else 0.0
        return level(full=0.92)(arm, saved, seed) + wild

    said = sentences(gathered(tmp_path / "c", accuracy))[-1]
    assert "It does not pay: fewer epochs do as well; it is" in said
    assert "random" not in said


@pytest.mark.parametrize("seeds", [2, 5])
def test_runs_that_agree_to_the_last_digit_settle_nothing(seeds, tmp_path):
    results = gathered(tmp_path / "c", lambda arm, saved, seed: 0.9, seeds=seeds)
    assert verdict(row(results, "soft")) == "not settled"
    told = gathered(tmp_path / "d", lambda arm, saved, seed: 0.9, seeds=seeds, tested=200)
    d = row(told, "soft")["against"]["random"]
    half = t_quantile(seeds - 1) * 0.005 / seeds**0.5  # the deviation is what one of 200 samples is worth
    assert (d["low"], d["high"]) == pytest.approx((-half, half))
    assert verdict(row(told, "soft")) == "not settled"


def test_bounds_say_how_far_below(tmp_path):
    said = sentences(gathered(tmp_path / "c", level(full=0.92, fewer_epochs=0.91)))[-1]
    assert re.search(r"is 1\.99 points \(1\.\d\d to 2\.\d\d\) below full training", said)
    assert re.search(r"it is 1\.00 points \(0\.\d\d to 1\.\d\d\) below them", said)


def test_a_control_that_saves_another_share_is_named_with_it(tmp_path):
    results = gathered(tmp_path / "c", level(fewer_epochs=0.88, random=0.87), real={"fewer-epochs": 0.17})
    assert sentences(results)[-1].endswith(
        "above fewer epochs (which save only 17 %), the best of 2 controls."
    )
    results = gathered(tmp_path / "d", level(fewer_epochs=0.88, random=0.87), real={"random": 0.0})
    assert sentences(results)[-1].endswith("above fewer epochs, the best of 2 controls.")
    assert row(results, "soft")["against"]["random"]["control_saved"] == 0


def test_an_arm_that_found_its_saving_is_held_against_the_nearest_control(tmp_path):
    def accuracy(arm, saved, seed):
        return 0.9 - (0.1 * saved if arm in ("fewer-epochs", "random") else 0.0)

    own = {"mine": {"policy": "error-mass"}}
    real = {"mine": 0.385, "fewer-epochs": 0.31}
    results = gathered(tmp_path / "a", accuracy, saved="0.37", real=real, own=own)
    mine = row(results, "mine", None)["against"]
    assert not mine["random"]["interpolated"]
    assert mine["random"]["control_saved"] == pytest.approx(0.37), "2 points less are near enough"
    assert not mine["fewer-epochs"]["interpolated"], "it was asked for as much, and rounds in its own favour"
    assert mine["fewer-epochs"]["control_saved"] == pytest.approx(0.31)
    results = gathered(tmp_path / "b", accuracy, saved="0.3,0.5", real={"mine": 0.4}, own=own)
    mine = row(results, "mine", None)["against"]
    assert mine["random"]["interpolated"]
    assert mine["random"]["mean"] == pytest.approx(0.04)
    results = gathered(tmp_path / "c", accuracy, saved="0.3", real={"mine": 0.4}, own=own)
    assert row(results, "mine", None)["against"].keys() == {"full"}, "no control saves as much"


def test_an_arm_that_pays_is_above_the_best_of_four_controls(tmp_path):
    own = dict.fromkeys(["fewer-epochs-thin", "random-dropped"])
    levels = {"fewer_epochs": 0.87, "random": 0.88, "fewer_epochs_thin": 0.885, "random_dropped": 0.85}
    results = gathered(tmp_path / "a", level(**levels), own=own)
    assert verdict(row(results, "soft")) == "pays"
    assert "above fewer epochs in thinner batches, the best of 4 controls." in sentences(results)[-1]
    worse = gathered(tmp_path / "b", level(**levels | {"random_dropped": 0.91}), own=own)
    assert verdict(row(worse, "soft")) == "does not pay"
    assert "random subsets in fewer steps do better" in sentences(worse)[-1]
    heads = rows(results)[0]
    assert [head for head in heads if head.startswith("against")] == [
        "against full",
        "against fewer epochs",
        "against fewer epochs in thinner batches",
        "against random subsets",
        "against random subsets in fewer steps",
    ]


def test_a_chosen_rate_is_in_the_table(tmp_path):
    results = gathered(tmp_path / "c", level())
    assert "rate" not in rows(results)[0]
    for each, factor in zip(results["arms"], (1.0, 0.5, 2.0, 1.0), strict=True):
        each |= {"learning_rate": 0.3 * factor, "rate_factor": factor}
    heads, cells = rows(results)
    place = heads.index("rate")
    assert [line[place] for line in cells] == ["0.3", "0.15 (x0.5)", "0.6 (x2)", "0.3"]
    assert "rate: the learning rate, chosen on a validation split" in table_text(results)


def test_an_arm_that_saved_nothing_is_not_compared(tmp_path):
    results = gathered(tmp_path / "c", level(fewer_epochs=0.88), real={"soft": 0.004})
    said = sentences(results)[-1]
    assert said.startswith("soft-0.5 saved nothing in 20 epochs, so there is nothing to compare. ")
    assert "--epochs" in said
    assert verdict(row(results, "soft")) == "no saving"
    results = gathered(tmp_path / "d", level(fewer_epochs=0.88), real={"soft": 0.014})
    assert sentences(results)[-1].startswith("soft-0.5 saved only 1 % in 20 epochs")
    assert verdict(row(results, "soft")) == "no saving"


def test_validation_samples_are_said_to_be_no_test_samples(tmp_path):
    results = gathered(tmp_path / "c", level(fewer_epochs=0.88), base={"validation": 0.1})
    assert "validation samples, not on the test samples" in sentences(results)[-1]
    assert "validation loss" in " ".join(rows(results)[0])
    assert "Final epoch, on the validation samples." in table_text(results)
    assert "validation" not in table_text(gathered(tmp_path / "d", level(fewer_epochs=0.88)))


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    results = gathered(tmp_path / "c", level(fewer_epochs=0.8), seeds=1)
    assert row(results, "soft")["against"]["full"]["low"] is None
    assert verdict(row(results, "soft")) == "not settled"
    assert sentences(results) == [
        "One seed settles nothing, so only the numbers are given: run 3 at least (--seeds 5)."
    ]
    assert "±" not in table_text(results)
    assert "fewer than 3 seeds have no interval" in table_text(results)


def test_two_seeds_that_happen_to_agree_get_their_numbers_and_no_sentence(tmp_path):
    results = gathered(tmp_path / "c", level(full=0.5, fewer_epochs=0.8, random=0.2), seeds=2)
    assert verdict(gains(row(results, "soft"))) == "not settled"
    assert sentences(results) == [
        "Two seeds settle nothing, so only the numbers are given: run 3 at least (--seeds 5)."
    ]
    cells = next(cells for cells in rows(results)[1] if cells[0] == "soft")
    assert cells[3:6] == ["+40.00", "+10.00", "+70.00"]
    assert "95 %" not in table_text(results)


def test_runs_that_diverged_are_named_first_and_not_judged(tmp_path):
    def accuracy(arm, saved, seed):
        return level(fewer_epochs=0.88, random=0.87)(arm, saved, seed)

    fine = gathered(tmp_path / "a", accuracy)
    assert "diverged" not in " ".join(sentences(fine)) + table_text(fine)
    own = gathered(tmp_path / "b", accuracy, diverged=["soft-0.5-1"])
    assert verdict(gains(row(own, "soft"))) == "diverged"
    assert sentences(own) == [
        "1 of 20 runs diverged: soft-0.5-1. Their results mean nothing. soft-0.5 cannot "
        "be judged. Lower --learning_rate."
    ]
    line = next(line for line in table_text(own).splitlines() if line.startswith("soft"))
    assert line.split()[2:6] == ["90.01", "±", "0.15", "!"]
    assert "! runs of it diverged" in table_text(own)
    full = gathered(tmp_path / "c", level(full=0.1, fewer_epochs=0.2), diverged=["full-2", "full-3"])
    assert sentences(full)[0].startswith("2 of 20 runs diverged: full-2, full-3.")
    assert verdict(gains(row(full, "soft"))) == "diverged"
    assert not any("too long" in said for said in sentences(full))


def test_without_controls_nothing_is_said_to_pay(tmp_path):
    options = CompareOptions(arms="full,soft", seeds=2, out=str(tmp_path / "none"))
    assert gather(make_course(options, TrainOptions(data="digits")).first(), 1, {})["arms"] == []
    results = gathered(tmp_path / "c", level())
    bare = row(results, "soft") | {"against": {}}
    assert verdict(bare) == "no control"
    assert "add fewer-epochs-thin and random" in sentences(results | {"arms": [bare]})[-1]


def test_full_training_past_its_optimum(tmp_path):
    results = gathered(tmp_path / "a", level(fewer_epochs=0.92))
    assert sentences(results)[0].startswith("10 full epochs end 2.0")
    assert "it is too long" in sentences(results)[0]
    rising = [1.0 - 0.01 * e if e < 12 else 0.9 + 0.01 * e for e in range(EPOCHS)]
    results = gathered(tmp_path / "b", level(fewer_epochs=0.8), loss=rising)
    assert results["full_too_long"] == {"fewer_epochs_above_full": []}
    assert "too long" not in " ".join(sentences(results)), "accuracy is what all is judged by"


def test_fewer_epochs_a_little_above_full_by_chance_are_no_sign_of_too_long_a_training(tmp_path):
    def wavering(arm, saved, seed):
        return 0.9 + ((0.05, -0.04, 0.03, -0.03, 0.0)[seed] if arm == "fewer-epochs" else NOISE[seed])

    results = gathered(tmp_path / "c", wavering)
    (found,) = results["full_too_long"]["fewer_epochs_above_full"]
    assert found["mean"] > 0 > -0.003 > found["low"]
    assert not any("too long" in said for said in sentences(results))


def test_failed_runs_are_left_out_and_named(tmp_path):
    results = gathered(tmp_path / "c", level(fewer_epochs=0.88), failed=["soft-0.5-3"])
    assert row(results, "soft")["seeds"] == [0, 1, 2, 4]
    assert row(results, "soft")["against"]["full"]["n"] == 4
    assert sentences(results)[-1].startswith("1 failed: soft-0.5-3.")


def test_forward_passes_are_not_hidden(tmp_path):
    results = gathered(tmp_path / "c", level(fewer_epochs=0.88), forward=6000)
    assert "saves 50 % (40 % net of measuring) and is" in sentences(results)[0]


def test_the_table_keeps_the_control_where_it_is_narrow(tmp_path):
    results = gathered(tmp_path / "c", level(fewer_epochs=0.88), real={"soft": 0.4})
    wide, narrow = table_text(results, 140), table_text(results, 64)
    assert len(wide.splitlines()) >= 5
    for text in (wide, narrow):
        line = next(line for line in text.splitlines() if line.startswith("soft"))
        assert line.split()[:5] == ["soft", "40.0", "90.01", "±", "0.15"]
        assert "~" in line
    assert max(map(len, narrow.splitlines()[:-2])) <= 64
    assert narrow.splitlines()[-1].startswith("No room for ")
    assert "CPU s: see results.json" in narrow.splitlines()[-1]
    assert "No room" not in wide
    assert "full" in table_text(results, 40).splitlines()[0] + table_text(results, 40).splitlines()[1]
    assert "0.500" not in narrow
    assert "CPU" in wide


class TestBits:
    """Language models are judged by bits a character: less is better, differences are per cent."""

    @pytest.mark.parametrize(
        ("levels", "wanted", "words"),
        [
            ((2.0, 2.1, 2.1, 1.98), "pays", "better than full training. It pays: it is 5.7"),
            ((2.0, 2.1, 2.1, 2.04), "pays at a cost", "It pays, at a price in bits a character: it is"),
            ((2.0, 2.1, 2.1, 2.1), "does not pay", "5.0"),
            ((2.0, 2.1, 2.05, 2.1), "does not pay", "random subsets do better; it is 2.4"),
        ],
    )
    def test_verdicts(self, levels, wanted, words, tmp_path):
        names = ("full", "fewer_epochs", "random", "soft")
        results = gathered(tmp_path / "c", level(**dict(zip(names, levels, strict=True))), bits=True)
        assert results["measure"] == "bits_per_character"
        assert verdict(gains(row(results, "soft"))) == wanted
        assert words in sentences(results)[-1]
        assert "points" not in " ".join(sentences(results))

    def test_a_difference_is_a_share_of_the_other_seed_by_seed(self, tmp_path):
        bits = {"full": (2.0, 2.2, 2.1), "soft": (2.1, 2.3, 2.15)}
        results = gathered(
            tmp_path / "c", lambda arm, saved, seed: bits.get(arm, bits["full"])[seed], seeds=3, bits=True
        )
        d = row(results, "soft")["against"]["full"]
        logs = np.log(bits["soft"]) - np.log(bits["full"])
        half = t_quantile(2) * logs.std(ddof=1) / np.sqrt(3)
        assert d["relative"]
        wanted = np.expm1([logs.mean(), logs.mean() - half, logs.mean() + half])
        assert [d[name] for name in ("mean", "low", "high")] == pytest.approx(list(wanted))
        soft = row(results, "soft")["bits_per_character"]
        assert (soft["mean"], soft["values"]) == (pytest.approx(np.mean(bits["soft"])), list(bits["soft"]))
        assert row(results, "soft")["accuracy"]["mean"] == 0.25
        told = gains(row(results, "soft"))["against"]["full"]
        assert (told["mean"], told["low"], told["high"]) == (-d["mean"], -d["high"], -d["low"])

    def test_one_seed_has_no_interval_and_the_worse_side_is_named(self, tmp_path):
        results = gathered(tmp_path / "c", level(full=2.0, soft=2.02), bits=True)
        assert "worse than full training" in " ".join(sentences(results))
        results = gathered(tmp_path / "d", level(full=2.0, soft=2.02), seeds=1, bits=True)
        assert row(results, "soft")["against"]["full"]["low"] is None

    def test_a_text_that_says_nothing_new_has_no_bits(self, tmp_path):
        results = gathered(tmp_path / "c", lambda arm, saved, seed: 0.0, seeds=3, bits=True)
        assert row(results, "soft")["against"]["full"]["mean"] == 0
        assert sentences(results)

    def test_fewer_epochs_with_fewer_bits_say_that_full_training_is_too_long(self, tmp_path):
        results = gathered(tmp_path / "c", level(full=2.0, fewer_epochs=1.9), bits=True)
        assert sentences(results)[0].startswith("10 full epochs end 5.")
        assert "better than full training: it is too long" in sentences(results)[0]
        longer = gathered(tmp_path / "d", level(full=2.0, fewer_epochs=2.1), bits=True)
        assert longer["full_too_long"]["fewer_epochs_above_full"] == []

    def test_the_table_has_bits_and_no_classes(self, tmp_path):
        results = gathered(tmp_path / "c", level(full=2.0, soft=2.02), bits=True)
        heads, cells = rows(results)
        assert heads == ["arm", "saved %", "bits a character", "against full", "against fewer epochs",
                         "against random subsets", "next token %", "CPU s"]  # fmt: skip
        full, soft = cells[0], next(line for line in cells if line[0] == "soft")
        assert full[:3] == ["full", "0.0", "2.0000 ± 0.0015"]
        assert soft[3].startswith("+1.0")
        assert soft[-2] == "25.00"
        assert "difference in % (below 0 is better) ± 95 % interval" in table_text(results, 140)
        validated = gathered(tmp_path / "d", level(full=2.0), bits=True, base={"validation": 0.2})
        assert rows(validated)[0][2] == "validation bits a character"

    def test_the_chart_shows_bits(self, tmp_path):
        results = gathered(tmp_path / "c", level(full=2.0, soft=2.02), bits=True)
        ax = frontier_chart(results).axes[0]
        assert ax.get_title(loc="left") == "test bits a character, less is better"
        low, high = ax.get_ylim()
        assert 0.7 < low < 0.9 < 2.02 < high < 2.2
        with pytest.raises(InvalidValue, match="needs an arm with bits_per_character"):
            frontier_chart(results | {"arms": []})


def arms_of_a_chart(count, savings):
    rng = np.random.default_rng(3)
    names = ["fewer-epochs", "random", *(f"policy-number-{i}" for i in range(count - 3))]
    rows = [{"arm": "full", "saved_fraction": 0.0, "n": 5, "accuracy": {"mean": 0.922, "sd": 0.001}}]
    rows += [
        {"arm": name, "saved_fraction": s, "n": 5}
        | {"accuracy": {"mean": 0.922 - 0.02 * s * rng.random(), "sd": 0.001}}
        for name in names
        for s in savings
    ]
    settings = {"data": "digits", "epochs": 20, "validation": None}
    return {"arms": rows, "settings": settings, "measure": "accuracy"}


@pytest.mark.parametrize(("count", "savings"), [(12, (0.3, 0.5, 0.7)), (4, (0.5,)), (3, (0.5,))])
def test_labels_do_not_overlap_and_lie_on_the_page(count, savings):
    figure = frontier_chart(arms_of_a_chart(count, savings))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.texts]
    assert len(boxes) == count + 2
    page = figure.bbox
    for i, box in enumerate(boxes):
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_every_point_is_inside_the_axes():
    figure = frontier_chart(arms_of_a_chart(12, (0.3, 0.5, 0.7)))
    ax = figure.axes[0]
    for line in ax.get_lines():
        x, y = line.get_data()
        assert np.all((np.asarray(y) >= ax.get_ylim()[0]) & (np.asarray(y) <= ax.get_ylim()[1]))
        if len(x) == 3:
            assert ax.get_xlim()[0] < min(x)
            assert max(x) < ax.get_xlim()[1]


def test_the_chart_is_written_twice_and_the_same_again(tmp_path):
    results = arms_of_a_chart(5, (0.3, 0.5))
    png, svg = save_frontier(results, tmp_path / "a")
    with Image.open(png) as image:
        assert image.size == (1625, 1625)
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    again = save_frontier(results, tmp_path / "b")
    assert [p.read_bytes() for p in again] == [png.read_bytes(), svg.read_bytes()]
    with pytest.raises(InvalidValue, match="needs an arm with accuracy"):
        frontier_chart(results | {"arms": []})


@given(st.lists(st.floats(-5, 25), max_size=9), st.floats(0.1, 3))
def test_spread_keeps_order_and_distance_and_moves_no_more_than_it_must(wanted, gap):
    wanted = sorted(wanted)
    found = spread(wanted, gap, 0.0, 20.0)
    gap = min(gap, 20.0 / max(1, len(wanted) - 1))
    assert len(found) == len(wanted)
    assert all(-1e-9 <= place <= 20 + 1e-9 for place in found)
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(found))
    clipped = np.clip(wanted, 0, 20)
    if len(wanted) and (np.diff(clipped) >= gap).all():
        assert found == pytest.approx(list(clipped))


def test_durations_as_people_say_them():
    assert [duration(s) for s in (0.4, 89, 91, 5399, 7200)] == [
        "0 s",
        "89 s",
        "2 min",
        "1 h 30 min",
        "2 h 00 min",
    ]


def test_an_error_bar_goes_through_its_mark():
    results = arms_of_a_chart(12, (0.3, 0.5, 0.7))
    results["arms"][3]["accuracy"]["sd"] = None  # of one seed: no bar
    results["arms"][4]["accuracy"]["sd"] = 0.01
    ax = frontier_chart(results).axes[0]
    expected = [
        (100 * row["saved_fraction"], 100 * row["accuracy"]["mean"], 100 * row["accuracy"]["sd"])
        for row in results["arms"][1:]
        if row["accuracy"]["sd"]
    ]
    bars = [bar for bar in ax.containers if bar.has_yerr]
    assert len(bars) == len(expected) == 32
    ends = [bar.lines[2][0].get_segments()[0] for bar in bars]
    found = [(low[0], (low[1] + high[1]) / 2, (high[1] - low[1]) / 2) for low, high in ends]
    np.testing.assert_allclose(sorted(found), sorted(expected))
    assert all(low[0] == high[0] for low, high in ends)
    order = sorted(bars, key=lambda bar: bar.lines[2][0].get_zorder())
    assert (
        order[0].lines[2][0].get_segments()[0].tolist()
        == ends[found.index(max(found, key=lambda f: f[2]))].tolist()
    )


def test_very_many_arms_and_very_long_names_have_room():
    results = arms_of_a_chart(30, (0.5,))
    results["arms"][5]["arm"] = "package.module:" + "VeryLong" * 30
    results["arms"][6]["arm"] = "a\nb\u202e\ud800"
    figure = frontier_chart(results)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.texts]
    assert figure.axes[0].get_position().width > 0.3
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_marks_stand_where_their_arms_are():
    figure = frontier_chart(arms_of_a_chart(12, (0.3, 0.5, 0.7)))
    marked = [line for line in figure.axes[0].get_lines() if line.get_marker() not in ("None", "", None)]
    assert len(marked) == 11
    for line in marked:
        assert list(line.get_xdata()) == pytest.approx([30.0, 50.0, 70.0])
