"""The stages of a comparison: what each finds out, and that it stays."""

import json
from itertools import pairwise

import pytest

from fallow.cli.main import main
from fallow.comparison.choosing import SEEDS, best_factors, best_length, lengths_plan, rates_plan, with_rates
from fallow.comparison.forecast import forecast
from fallow.comparison.options import CompareOptions
from fallow.comparison.plan import Plan
from fallow.comparison.pool import Probe
from fallow.comparison.results import gather
from fallow.comparison.running import make_course
from fallow.errors import FallowError, InvalidValue
from fallow.options.resolve import resolve
from fallow.options.train_options import TrainOptions
from fallow.runs.schema import FullTraining
from made_up_runs import N, leave

EPOCHS = 8
FULL = FullTraining(N, 100, 0.3)
NAMES = ["full", "fewer-epochs", "fewer-epochs-thin", "random", "soft", "error-mass"]


def course_of(out, *, epochs=EPOCHS, base=None, said=None, **options):
    asked = CompareOptions(**{"arms": NAMES, "seeds": 2, "out": str(out)} | options)
    words = [].append if said is None else said.append
    course = make_course(asked, TrainOptions(**{"data": "digits", "epochs": epochs} | (base or {})), words)
    course.folder.check()
    return course


def go_through(course, saved=0.39, worth=lambda run: 0.9):
    """Train every stage by making up its runs; return the stages."""
    plans = []
    if course.folder.found.full is None:
        course.folder.keep(full=FULL)
    with course.folder.opened():
        for plan in course.stages():
            plan.check()
            for run in plan.missing():
                finds = run.options.policy == "error-mass"
                leave(run, worth(run), saved if finds else run.arm.saved or 0.0, epochs=run.options.epochs)
            plans.append(plan)
    return plans


def labels(plan):
    return [arm.label for arm in plan.arms]


class TestSaving:
    def test_the_arms_that_find_their_share_run_first_and_all_others_at_what_they_found(self, tmp_path):
        said = []
        course = course_of(tmp_path / "c", said=said)
        opening = course.ahead()
        assert [labels(plan) for plan in opening] == [
            ["full", "error-mass"],
            ["full", "error-mass", "fewer-epochs", "fewer-epochs-thin", "random", "soft"],
        ]
        first, last = go_through(course, saved=0.3876)
        assert labels(first) == ["full", "error-mass"]
        shares = ["fewer-epochs-0.39", "fewer-epochs-thin-0.39", "random-0.39", "soft-0.39"]
        assert sorted(labels(last)) == sorted(["full", "error-mass", *shares])
        assert last.saved == (0.39,)
        assert said == ["error-mass saved 39%: the others run at that saving."]
        thin = next(arm for arm in last.arms if arm.name == "fewer-epochs-thin").options
        assert (thin.epochs, thin.batch_size) == (5, 63), "5 epochs of 16 steps instead of 8 of 10"
        assert last.missing() == []

    def test_more_seeds_find_nothing_new(self, tmp_path):
        go_through(course_of(tmp_path / "c"), saved=0.39)
        course = course_of(tmp_path / "c", seeds=5)
        assert course.folder.found.saved == 0.39
        assert sum(len(plan.missing()) for plan in course.ahead()[-1:]) == 3 * 6
        *_, last = go_through(course, saved=0.6)
        assert last.saved == (0.39,)
        rows = {row["label"]: row for row in gather(last, 1, {})["arms"]}
        assert rows["random-0.39"]["n"] == 5

    def test_the_mean_counts_over_all_seeds(self, tmp_path):
        course = course_of(tmp_path / "c", arms=["full", "error-mass", "random"])
        shares = {0: 0.3, 1: 0.5}
        course.folder.keep(full=FULL)
        with course.folder.opened():
            for plan in course.stages():
                for run in plan.missing():
                    leave(run, 0.9, shares[run.seed] if run.arm.name == "error-mass" else 0.0, epochs=EPOCHS)
        assert course.folder.found.saved == 0.4

    @pytest.mark.parametrize("saved", [0.0, 0.012, -0.1])
    def test_a_saving_of_next_to_nothing_needs_no_control(self, saved, tmp_path):
        said = []
        (only,) = go_through(course_of(tmp_path / "c", said=said), saved=saved)
        assert labels(only) == ["full", "error-mass"]
        assert said[0].endswith("too little for a control.")
        assert [plan.missing() for plan in course_of(tmp_path / "c").ahead()] == [[]]

    def test_numbers_are_for_arms_that_take_a_share(self, tmp_path):
        (plan,) = course_of(tmp_path / "c", saved="0.3,0.5", arms=["full", "random", "error-mass"]).ahead()
        assert labels(plan) == ["full", "random-0.3", "random-0.5", "error-mass"]

    def test_if_no_arm_finds_a_share_half_is_saved(self, tmp_path):
        (plan,) = course_of(tmp_path / "c", arms="full,random,soft").ahead()
        assert labels(plan) == ["full", "random-0.5", "soft-0.5"]

    def test_an_arm_that_cannot_save_as_much_says_so(self, tmp_path):
        said = []
        course = course_of(tmp_path / "c", arms=["full", "threshold", "error-mass"], said=said)
        *_, last = go_through(course, saved=0.8)
        assert labels(last) == ["full", "threshold-0.62", "error-mass"]
        assert said[-1] == "threshold-0.62: more cannot be saved."

    def test_what_is_wrong_shows_before_a_saving_is_known(self, tmp_path):
        with pytest.raises(InvalidValue, match="Did you mean 'random'"):
            course_of(tmp_path / "c", arms=["full", "error-mass", "randon"])
        with pytest.raises(InvalidValue, match="One epoch cannot save"):
            course_of(tmp_path / "c", epochs=1)
        with pytest.raises(InvalidValue, match=r"choose by seeds that no run has\. Found 1001"):
            course_of(tmp_path / "c", rates=True, seeds=[0, 1001])
        assert course_of(tmp_path / "c", seeds=[0, 1001]).seeds == (0, 1001)

    def test_without_a_finished_run_nothing_is_found(self, tmp_path):
        said = []
        course = course_of(tmp_path / "c", said=said)
        course.folder.keep(full=FULL)
        assert [labels(plan) for plan in course.stages()] == [["full", "error-mass"]]
        assert course.folder.found.saved is None
        assert said == ["The saving is not known, since no run of error-mass finished."]


class TestRates:
    def test_each_arm_is_tried_at_three_rates_on_a_validation_split(self, tmp_path):
        course = course_of(tmp_path / "c", rates=True)
        course.folder.keep(full=FULL)
        early, first, late, last = go_through(course)
        assert [plan.place for plan in (early, first, late, last)] == ["rates", "runs", "rates", "runs"]
        assert early.seeds == late.seeds == SEEDS
        assert not set(SEEDS) & set(first.seeds)
        assert labels(early)[:3] == ["full-x0.5", "full-x1", "full-x2"]
        assert labels(late)[3:6] == [f"fewer-epochs-thin-0.39-x{factor}" for factor in ("0.5", "1", "2")]
        rates = [arm.options.learning_rate for arm in late.arms]
        assert rates[:3] == pytest.approx([0.15, 0.3, 0.6])
        assert rates[3:6] == pytest.approx([0.3 * 0.63 / 2, 0.3 * 0.63, 0.3 * 0.63 * 2]), (
            "of the thinner batch"
        )
        tried = [arm.options for plan in (early, late) for arm in plan.arms]
        assert {options.validation for options in tried} == {0.2}
        assert {options.batch_size for options in tried} == {100, 63}, "that of all samples"
        assert all(run.path.parent == tmp_path / "c" / "rates" for run in early.runs())
        assert {arm.options.validation for arm in last.arms} == {None}

    def test_an_arm_is_run_with_its_best_rate_and_others_as_they_were(self, tmp_path):
        def worth(run):
            return 0.92 if run.arm.name in ("error-mass-x2", "random-0.39-x0.5") else 0.9

        said = []
        course = course_of(tmp_path / "c", rates=True, said=said)
        *_, last = go_through(course, worth=worth)
        arms = {arm.label: arm for arm in last.arms}
        assert (arms["error-mass"].options.learning_rate, arms["error-mass"].rate) == (0.6, 0.6)
        assert arms["random-0.39"].options.learning_rate == 0.15
        assert arms["full"].options.learning_rate is None
        assert (arms["full"].rate, arms["full"].factor) == (0.3, 1.0)
        assert said[0] == "Learning rates: full 0.3, error-mass 0.6 (x2)."
        rows = {row["label"]: row for row in gather(last, 1, {})["arms"]}
        assert (rows["random-0.39"]["learning_rate"], rows["random-0.39"]["rate_factor"]) == (0.15, 0.5)
        again = course_of(tmp_path / "c", rates=True)
        assert [plan.place for plan in again.ahead()] == ["runs", "runs"]
        assert not any(plan.missing() for plan in again.ahead())

    def test_a_given_rate_is_the_middle_one(self, tmp_path):
        base = {"learning_rate": 0.05}
        early, *_ = go_through(course_of(tmp_path / "c", rates=True, base=base))
        assert [arm.options.learning_rate for arm in early.arms][:3] == [0.025, 0.05, 0.1]

    @pytest.mark.parametrize(
        ("values", "chosen"),
        [
            ({0.5: (0.90, 0.92), 1: (0.90, 0.91), 2: (0.8, 0.9)}, 1.0),  # 0.005 +- 0.005
            ({0.5: (0.92, 0.93), 1: (0.90, 0.91), 2: (0.8, 0.9)}, 0.5),
            ({0.5: (0.92, 0.93), 1: (0.90, 0.91), 2: (0.94, 0.95)}, 2.0),
            ({0.5: (0.9009, 0.9109), 1: (0.90, 0.91), 2: (0.8, 0.9)}, 1.0),  # less than one of 200 samples
            ({0.5: (0.5, 0.6), 1: (None, 0.91), 2: (None, None)}, 0.5),
            ({0.5: (None, 0.6), 1: (None, 0.91), 2: (None, None)}, 1.0),
        ],
    )
    def test_the_usual_rate_stays_unless_another_is_better_for_sure(self, values, chosen, tmp_path):
        """None: the run diverged."""
        course = course_of(tmp_path / "c", arms=["full"])
        plan = course.ahead()[-1]
        tried = rates_plan(plan, plan.arms, FULL)
        for run in tried.runs():
            value = values[float(run.arm.name.split("x")[1])][SEEDS.index(run.seed)]
            leave(run, value or 0.1, epochs=EPOCHS, tested=200, diverged=value is None)
        assert best_factors(tried, plan.arms) == {"full": chosen}

    def test_fewer_bits_are_better(self, tmp_path):
        plan = course_of(tmp_path / "c", arms=["full"]).ahead()[-1]
        tried = rates_plan(plan, plan.arms, FULL)
        for run in tried.runs():
            leave(run, 1.9 if "x2" in run.arm.name else 2.0, epochs=EPOCHS, bits=True)
        assert best_factors(tried, plan.arms) == {"full": 2.0}

    def test_without_all_runs_at_the_usual_rate_none_is_chosen(self, tmp_path):
        plan = course_of(tmp_path / "c", arms=["full"]).ahead()[-1]
        tried = rates_plan(plan, plan.arms, FULL)
        for run in tried.runs()[:-2]:
            leave(run, 0.9, epochs=EPOCHS)
        assert best_factors(tried, plan.arms) == {}
        assert with_rates(plan, {}, FULL) == plan


class TestLength:
    def test_the_length_that_is_found_is_that_of_all_arms(self, tmp_path):
        said = []
        course = course_of(tmp_path / "c", tune=True, said=said)
        lengths, first, last = go_through(course, worth=lambda run: 0.9 if run.options.epochs > 4 else 0.8)
        assert (lengths.place, lengths.seeds) == ("tune", SEEDS)
        assert [arm.options.epochs for arm in lengths.arms] == [4, 6, 8, 12]
        assert {arm.options.validation for arm in lengths.arms} == {0.2}
        assert {arm.options.epochs for arm in first.arms} == {6}
        assert {arm.label: arm.options.epochs for arm in last.arms}["fewer-epochs-0.39"] == 4
        assert said[0].startswith("Full training is 6 epochs long, chosen among 4 (80.00%), 6 (90.00%), 8 (")
        assert gather(last, 1, {})["samples_full"] == 6 * N
        again = course_of(tmp_path / "c", tune=True)
        assert [plan.place for plan in again.ahead()] == ["runs", "runs"]
        assert not any(plan.missing() for plan in again.ahead())

    @pytest.mark.parametrize(
        ("values", "chosen"),
        [
            ({4: (0.80, 0.80), 6: (0.893, 0.895), 8: (0.89, 0.90), 12: (0.85, 0.85)}, 6),
            ({4: (0.80, 0.80), 6: (0.88, 0.88), 8: (0.89, 0.90), 12: (0.85, 0.85)}, 8),
            ({4: (0.80, 0.80), 6: (0.88, 0.88), 8: (0.89, 0.90), 12: (0.95, 0.95)}, 12),
            ({4: (0.80, 0.80), 6: (0.88, 0.88), 8: (0.89, 0.90), 12: (None, 0.95)}, 8),
        ],
    )
    def test_it_is_the_shortest_within_a_standard_error_of_the_best(self, values, chosen, tmp_path):
        plan = lengths_plan(resolve(TrainOptions(data="digits", epochs=EPOCHS)), FULL, tmp_path)
        for run in plan.runs():
            value = values[run.options.epochs][SEEDS.index(run.seed)]
            leave(run, value or 0.1, epochs=EPOCHS, diverged=value is None)
        found, sentence = best_length(plan)
        assert found == chosen
        assert ("Longer may be better still" in sentence) == (chosen == 12)

    def test_without_a_finished_length_the_given_one_is_trained(self, tmp_path):
        said = []
        course = course_of(tmp_path / "c", tune=True, said=said)
        course.folder.keep(full=FULL)
        stages = course.stages()
        next(stages)
        assert {arm.options.epochs for arm in next(stages).arms} == {EPOCHS}
        assert said == ["No length was chosen, since none finished: 8 epochs are trained."]
        assert course.folder.found.epochs is None


def test_choices_are_part_of_the_settings(tmp_path):
    go_through(course_of(tmp_path / "c", tune=True))
    with pytest.raises(InvalidValue, match="holds tune True, now not set"):
        course_of(tmp_path / "c")
    go_through(course_of(tmp_path / "d"))
    with pytest.raises(InvalidValue, match="holds rates not set, now True"):
        course_of(tmp_path / "d", rates=True)


def test_a_folder_of_an_older_version_is_readable(tmp_path):
    options = {"arms": ["full", "soft"], "saved": "0.5"}
    go_through(course_of(tmp_path / "c", **options))
    path = tmp_path / "c" / "compare.json"
    content = json.loads(path.read_text())
    assert content["found"]["full"] == {"samples": N, "batch_size": 100, "learning_rate": 0.3}
    del content["found"]
    path.write_text(json.dumps(content))
    course = course_of(tmp_path / "c", **options)
    (plan,) = course.ahead()
    plan.check()
    assert plan.missing() == []
    assert course.folder.found.full is None


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ({"validation": 0.1}, {"rates": True}, r"--rates holds out .* of its own.*--validation 0\.1"),
        ({"data": "mine:Data", "model": "mine:Net"}, {"tune": True}, r"--tune must .*mine:Data, which sets"),
        ({}, {"rates": True, "arms": {"a": {"model": "b:C"}}}, r"none in the arm a\. Add learning_rate"),
        ({}, {"rates": "yes"}, "`rates` must be True or False"),
    ],
)  # fmt: skip
def test_choices_that_cannot_be_made(base, options, message, tmp_path):
    with pytest.raises(FallowError, match=message):
        course_of(tmp_path / "c", base=base, **options)


def test_a_module_that_sets_its_own_rate_is_refused_when_it_is_known(tmp_path):
    course = course_of(tmp_path / "c", rates=True, tune=True, base={"model": "mine:Net"})
    course.folder.keep(full=FullTraining(N, 100))
    with pytest.raises(
        InvalidValue, match=r"--tune and --rates must train .*--model mine:Net, which sets its own"
    ):
        course.check_rate()
    course_of(tmp_path / "d").check_rate()


def test_the_cost_of_every_stage_is_known_beforehand(tmp_path):
    course = course_of(tmp_path / "c", rates=True, tune=True)
    course.folder.keep(full=FULL)
    lines, seconds = forecast(course.ahead(), Probe(FULL, [1000.0, 1000.0]), 2)
    assert lines[0].startswith("--tune, to choose the length of full training: 8 runs, 48,000 samples to")
    assert lines[1].startswith("--rates, to choose the learning rate of each arm: 36 runs, at most 230,400")
    assert lines[2].startswith("12 runs, at most 96,000 samples to train on, 2 at a time: about 48 s")
    assert lines[3] == "All of this takes about 3 min."
    assert seconds == pytest.approx((48_000 + 230_400 + 96_000) / 2000)
    go_through(course)
    assert forecast(course.ahead(), Probe(FULL, [1000.0]), 1) == ([], 0.0)


def test_a_run_is_in_one_stage_or_the_same_in_all(tmp_path):
    plans: list[Plan] = go_through(course_of(tmp_path / "c", rates=True, tune=True))
    options = {}
    for plan in plans:
        for run in plan.runs():
            assert options.setdefault(run.path, run.options) == run.options
    assert all(len(a.arms) != len(b.arms) for a, b in pairwise(plans))


@pytest.mark.parametrize(
    "found", [3, {"full": {"samples": 0, "batch_size": 3}}, {"saved": 7}, {"rates": {"full": "x"}}]
)
def test_a_damaged_finding_ends_the_command_with_3(found, tmp_path, capsys):
    go_through(course_of(tmp_path / "c"))
    path = tmp_path / "c" / "compare.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"found": found}))
    assert main(["compare", "--data", "digits", "--epochs", "8", "--out", str(tmp_path / "c")]) == 3
    assert "compare.json must" in capsys.readouterr().err
