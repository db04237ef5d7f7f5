"""The cards of regions: what is told, which samples are shown, and what to do, with its reason."""

import json

import numpy as np
import pytest

from fallow.gaps import Region, Regions, find_regions
from fallow.gaps.cards import EXAMPLES, PROTOTYPES, SHOWN, CardMaker
from toy_surveys import DIM, centre, cluster, survey, world

NAMES = ("cat", "dog", "cow")


def draw(seed=0):
    return np.random.default_rng(seed)


def made(few, many, *, mine=(0, 0), theirs=(1, 1), other=(0, 0)):
    """Surveys and the region of the last samples of each; labels and predictions of these, and of others."""
    training, reference = (
        world(
            count,
            seed,
            cluster(1, size, draw(size)),
            labels=[other[0]] * count + [labels[0]] * size,
            predicted=[other[1]] * count + [labels[1]] * size,
        )
        for count, seed, size, labels in ((400, 0, few, mine), (200, 1, many, theirs))
    )
    return training, reference, region(np.arange(400, 400 + few), np.arange(200, 200 + many))


def region(training, reference, factor=1.1, least=0.5, stability=0.9):
    mine, theirs = np.asarray(training, np.int64), np.asarray(reference, np.int64)
    return Region(mine, theirs, centre(1), factor, least, stability, float(len(theirs)))


def maker(training, reference, **options):
    options = {"names": NAMES, "index": np.arange(len(reference)) * 10, **options}
    return CardMaker(training, reference, **options)


def card(training, reference, one, **options):
    """The card of one region, which may be missing or not."""
    regions = Regions([one], []) if one.missing else Regions([], [one])
    missing, thin = maker(training, reference, **options).cards(regions)
    return (missing + thin)[0]


def test_a_card_is_json_and_says_what_the_region_is():
    training, reference, one = made(20, 60)
    one = region(one.training, one.reference, factor=6.0, least=3.0, stability=0.8)
    told = card(training, reference, one)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["name"], told["size"], told["training"], told["reference"]) == ("gap 1", 80, 20, 60)
    assert told["share_of_training"] == pytest.approx(20 / 420)
    assert told["share_of_reference"] == pytest.approx(60 / 260)
    assert (told["times"], told["at_least"], told["stability"], told["lacking"]) == (6.0, 3.0, 0.8, 60.0)
    both = np.r_[training.percentile[one.training], reference.percentile[one.reference]]
    assert told["percentile"] == pytest.approx(np.median(both))
    assert (told["class"], told["class_share"], told["class_is_predicted"]) == ("dog", 0.75, False)
    assert (told["wrong"], told["judged"], told["error"], told["error_elsewhere"]) == (0, 60, 0.0, 0.0)
    assert (told["training_wrong"], told["training_judged"], told["training_error"]) == (0, 20, 0.0)
    assert told["training_error_elsewhere"] == 0.0


def test_the_region_that_was_found_is_told():
    training, reference = world(2000, 0), world(1000, 1, cluster(1, 60, draw()))
    missing, thin = maker(training, reference, names=None).cards(find_regions(training, reference))
    assert [one["action"] for one in missing] == ["collect"]
    assert [one["name"] for one in thin] == [f"thin {number}" for number in range(1, SHOWN + 1)]
    assert {one["index"] for one in missing[0]["examples"]} <= set(range(10_000, 10_600, 10))
    json.dumps([missing, thin], allow_nan=False)


def test_examples_are_distinct_members_and_the_first_lies_in_the_middle():
    training, reference, one = made(20, 60)
    examples = card(training, reference, one)["examples"]
    named = [(shown["of"], shown["index"]) for shown in examples]
    assert len(named) == len(set(named)) == EXAMPLES
    inside = {("training", row) for row in range(400, 420)}
    inside |= {("reference", 10 * row) for row in range(200, 260)}
    assert set(named) <= inside
    places = np.concatenate([training.places[400:], reference.places[200:]])
    order = [("training", 400 + row) for row in range(20)]
    order += [("reference", 10 * (200 + row)) for row in range(60)]
    far = np.linalg.norm(places - centre(1), axis=1)
    assert named[0] == order[far.argmin()]
    spread = np.linalg.norm(places - places[far.argmin()], axis=1)
    assert named[1] == order[spread.argmax()]


@pytest.mark.parametrize("count", [5, EXAMPLES, 30])
def test_examples_of_equal_samples_are_distinct(count):
    training, reference, one = made(0, count)
    reference.places[200:] = reference.places[200]
    examples = card(training, reference, one)["examples"]
    assert len({shown["index"] for shown in examples}) == len(examples) == min(count, EXAMPLES)


def test_prototypes_are_the_nearest_training_samples_that_lie_dense():
    training, reference, one = made(20, 30)
    told = card(training, reference, one)["prototypes"]
    far = np.linalg.norm(training.places - centre(1), axis=1)
    dense = [row for row in np.argsort(far) if training.percentile[row] < 0.5][:PROTOTYPES]
    assert [shown["index"] for shown in told] == dense
    np.testing.assert_allclose([shown["distance"] for shown in told], far[dense], rtol=1e-5)
    assert {shown["of"] for shown in told} == {"training"}


def test_without_dense_training_samples_there_is_no_prototype():
    training, reference, one = made(20, 30)
    few = training[np.arange(400, 420)]
    assert card(few, reference, region(np.arange(20), one.reference))["prototypes"] == []


def test_samples_are_told_with_their_names_and_files():
    training, reference, one = made(6, 6)
    files = ([f"{row}.png" for row in range(len(training))], {2000: "far.png"})
    teller = maker(training, reference, files=files)
    assert teller.sample(3, "training") == {
        "of": "training",
        "index": 3,
        "label": "cat",
        "predicted": "cat",
        "percentile": float(training.percentile[3]),
        "file": "3.png",
    }
    assert [teller.sample(row, "reference")["file"] for row in (200, 201)] == ["far.png", None]
    assert teller.sample(201, "reference")["index"] == 2010
    assert maker(training, reference).sample(3, "training")["file"] is None
    assert card(training, reference, one, names=None)["class"] == "0"
    assert card(training, reference, one, names=("cat",))["class"] in ("cat", "1")


def test_a_sample_without_a_percentile_is_json():
    training, reference, _ = made(6, 6)
    reference.percentile[4] = np.nan
    told = maker(training, reference).sample(4, "reference")
    assert told["percentile"] is None
    json.dumps(told, allow_nan=False)


def test_what_the_training_set_lacks_is_collected():
    training, reference, one = made(8, 60)
    one = region(one.training, one.reference, factor=7.0, least=2.5)
    told = card(training, reference, one)
    assert told["action"] == "collect"
    assert told["reason"] == (
        "23.1% of the held-out samples lie here, but only 2.0% of the training set: 7.0 times too few "
        "(at least 2.5); of the 60 held-out samples here 0 are wrong, and 0.0% of those elsewhere."
    )
    assert "samples of the reference" in card(training, reference, one, held_out=False)["reason"]


def test_training_samples_that_the_network_calls_otherwise_are_relabelled():
    training, reference, one = made(20, 10, mine=(0, 2), theirs=(2, 2))
    told = card(training, reference, one)
    assert told["action"] == "relabel"
    assert told["reason"].startswith(
        "The network predicts another class than the label for 100% of the 20 training samples here"
    )
    missing = region(one.training, one.reference, factor=7.0, least=2.5)
    assert card(training, reference, missing)["action"] == "relabel"


def test_where_the_network_errs_though_it_learned_something_is_collected():
    training, reference, one = made(20, 40, mine=(0, 0), theirs=(1, 0))
    told = card(training, reference, one)
    assert told["action"] == "collect"
    assert told["reason"] == (
        "The network errs here: of the 40 held-out samples here 40 are wrong, and 0.0% of those elsewhere. "
        "There are few training samples to learn from."
    )


def test_what_is_rare_and_covered_is_left_alone():
    training, reference, one = made(20, 10, theirs=(0, 0))
    told = card(training, reference, one)
    assert told["action"] == "ignore"
    assert told["reason"] == (
        "Rare, and not shown to be missing: 20 training samples here; of the 10 held-out samples here 0 are "
        "wrong, and 0.0% of those elsewhere."
    )


def test_held_out_errors_are_held_against_held_out_errors():
    """Training samples are nearly all right, as they were learned: that says nothing of held-out ones."""
    training, reference, one = made(20, 40, other=(0, 0), theirs=(1, 1))
    reference.predicted[:100] = 2  # half of the held-out samples elsewhere are wrong
    reference.predicted[200:216] = 2  # and 40 % of those here: fewer
    told = card(training, reference, one)
    assert (told["error"], told["error_elsewhere"]) == (0.4, 0.5)
    assert (told["training_error"], told["training_error_elsewhere"]) == (0.0, 0.0)
    assert told["action"] == "ignore"
    assert "of the 40 held-out samples here 16 are wrong, and 50.0% of those elsewhere" in told["reason"]
    assert "too few" not in told["reason"]


def test_what_is_missing_is_not_collected_where_the_network_is_better_than_elsewhere():
    training, reference, one = made(8, 60)
    reference.predicted[:20] = 2
    missing = region(one.training, one.reference, factor=7.0, least=2.5)
    told = card(training, reference, missing)
    assert told["action"] == "ignore"
    assert told["reason"].endswith(
        "Yet the network does not err more here: of the 60 held-out samples here 0 are wrong, and 10.0% of "
        "those elsewhere."
    )


def test_a_few_more_errors_than_elsewhere_are_too_few_to_tell():
    training, reference, one = made(20, 6, theirs=(1, 1))
    reference.predicted[:20] = 2
    reference.predicted[200:202] = 2
    told = card(training, reference, one)
    assert told["action"] == "ignore"
    assert told["reason"].endswith(
        "of the 6 held-out samples here 2 are wrong, and 10.0% of those elsewhere: too few to tell."
    )
    single = card(training, reference, region([400], [200]))
    assert "1 training sample here; the only one of the held-out samples here is wrong" in single["reason"]


def test_what_too_few_samples_show_is_not_called_covered():
    training, reference, _ = made(0, 7)
    told = card(training, reference, region([], np.arange(200, 207), factor=20.0, least=1.2))
    assert told["action"] == "ignore"
    assert "too few to tell whether any are missing: 0 training samples and 7 held-out" in told["reason"]
    unstable = region([], np.arange(200, 207), factor=20.0, least=3.0, stability=0.3)
    assert "too few to tell" in card(training, reference, unstable)["reason"]


def test_few_wrong_samples_are_no_reason():
    training, reference, one = made(4, 4, mine=(0, 1), theirs=(1, 0))
    assert card(training, reference, one)["action"] == "ignore"


def test_errors_count_among_samples_with_a_label():
    """One of 20 has a label, and it is wrong: that says nothing of the others."""
    training, reference, one = made(20, 40, mine=(-1, 1), theirs=(-1, 1))
    training.labels[400], reference.labels[200] = 0, 0
    told = card(training, reference, one)
    assert told["action"] == "ignore"
    assert told["error"] == 1.0
    training.labels[400:408] = 0
    told = card(training, reference, one)
    assert told["action"] == "relabel"
    assert "100% of the 8 training samples" in told["reason"]


def test_a_network_that_is_often_wrong_is_asked_for_more():
    """Where half of all are wrong, half of a region are no reason; with few wrong ones they are."""
    for other, action in (((0, 1), "ignore"), ((0, 0), "relabel")):
        training, reference, one = made(20, 20, mine=(0, 0), theirs=(0, 0), other=other)
        training.predicted[400:410] = 2
        training.predicted[:200] = 0
        assert card(training, reference, one)["action"] == action


def test_samples_without_labels():
    training, reference, one = made(20, 30, mine=(-1, -1), theirs=(-1, -1), other=(-1, -1))
    told = card(training, reference, one)
    json.dumps(told, allow_nan=False)
    assert (told["class"], told["class_share"], told["error"], told["error_elsewhere"]) == (None,) * 4
    assert told["action"] == "ignore"
    assert told["reason"] == (
        "Rare, and not shown to be missing: 20 training samples here; none of the held-out samples here has "
        "a label and a prediction."
    )
    assert {shown["label"] for shown in told["examples"]} == {None}


def test_predictions_stand_for_labels_that_are_unknown():
    told = card(*made(20, 30, mine=(-1, 2), theirs=(-1, 2), other=(-1, 0)))
    assert (told["class"], told["class_share"], told["class_is_predicted"]) == ("cow", 1.0, True)
    assert told["error"] is None


def test_a_network_without_classes_makes_no_errors():
    told = card(*made(20, 30, mine=(0, -1), theirs=(1, -1), other=(0, -1)))
    assert (told["class"], told["error"], told["error_elsewhere"]) == ("dog", None, None)
    assert "has a label and a prediction" in told["reason"]


def test_the_trend_is_where_the_nearest_training_samples_stood():
    training, reference, one = made(30, 30)
    low, high = np.linspace(0, 1, 430, dtype=np.float32), np.linspace(1, 0, 430, dtype=np.float32)
    some = low.copy()
    some[:400:2] = np.nan
    some[425] = np.inf
    trend = card(training, reference, one, scores=[low, high, some, low[:300], np.full(430, np.nan)])["trend"]
    nearest = 400 + np.argsort(np.linalg.norm(training.places[400:] - centre(1), axis=1))[:20]
    share = (low[:, None] < low[nearest]).mean()
    assert trend[:2] == pytest.approx([share, (high[:, None] < high[nearest]).mean()])
    kept = some[np.isfinite(some)]
    there = some[nearest][np.isfinite(some[nearest])]
    assert trend[2] == pytest.approx((kept[:, None] < there).mean())
    assert trend[3:] == [None, None]
    json.dumps(trend, allow_nan=False)


def test_without_scores_there_is_no_trend():
    assert card(*made(30, 30))["trend"] == []


def test_the_thin_regions_that_most_need_a_look_come_first():
    at = draw()
    places = np.concatenate([at.normal(size=(600, DIM))] + [cluster(k, 10 + k, at) for k in range(12)])
    starts = 600 + np.cumsum([0] + [10 + k for k in range(12)])
    labels, predicted = np.zeros(len(places), int), np.zeros(len(places), int)
    predicted[starts[3] : starts[3] + 9] = 1
    predicted[starts[5] : starts[5] + 1] = 1
    labels[starts[7] + 3 : starts[8]], predicted[starts[7] : starts[7] + 3] = -1, 1  # too few to judge by
    training = survey(places, np.arange(len(places)) >= 600, labels=labels, predicted=predicted)
    thin = [region(np.arange(starts[k], starts[k + 1]), []) for k in range(12)]
    told = maker(training, training[:100]).cards(Regions([], thin))[1]
    assert [one["action"] for one in told] == ["relabel"] + ["ignore"] * (SHOWN - 1)
    assert [one["size"] for one in told] == [13, 17, 15, 21, 20, 19, 18, 16]
    assert [one["name"] for one in told] == [f"thin {number}" for number in range(1, 9)]


def test_nothing_found_is_nothing_told():
    training, reference, _ = made(0, 0)
    assert maker(training, reference).cards(Regions()) == ([], [])


def test_a_reference_of_nothing_is_told():
    training, reference, one = made(20, 0)
    told = card(training, reference[:0], one, index=np.zeros(0, np.int64))
    assert (told["reference"], told["share_of_reference"]) == (0, 0.0)
