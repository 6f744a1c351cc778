"""What decides a verdict, row by row."""

import pytest

from reclmis.evaluation.verdicts import points, verdicts


def interval(low, high):
    return {"estimate": (low + high) / 2, "low": low, "high": high}


def row(lost=(0.1, 0.3), gained=(0.1, 0.3), images=30, by="exact", **more):
    described = {"by": by, "images": images, "before": 0.2, "after": 0.4, "gained": interval(*gained)}
    return {"images": images, "left_out": "", "left_out_images": 0, "lost": interval(*lost), "described": described,
            "same_mask_dice_per_image": 0.9, "dice_per_image": 0.1, **more}  # fmt: skip


def answer(name, found):
    return verdicts({name: found}, {})[0]["answer"]


MOVING = ["side_swapped", "zone_swapped", "distractor"]


@pytest.mark.parametrize("name", ["shuffled", *MOVING])
def test_following_takes_a_loss_and_a_gain_elsewhere(name):
    assert answer(name, row()) == "yes"
    assert answer(name, row(lost=(0.019, 0.3))) == "no"
    assert answer(name, row(gained=(0.019, 0.3))) == "no"
    assert answer(name, row(images=9)) == "not measured"
    silent = row()
    del silent["described"]
    assert answer(name, silent) == "not measured"


@pytest.mark.parametrize("name", MOVING)
def test_following_takes_an_answer_nearer_to_what_is_described_than_to_the_truth(name):
    assert answer(name, row(dice_per_image=0.39)) == "yes"
    assert answer(name, row(dice_per_image=0.41)) == "partly"
    assert answer(name, row(dice_per_image=0.41, lost=(0.0, 0.3))) == "no"
    # Of zones it is a share of what is marked, here 0.4.
    assert answer(name, row(by="zones")) == "partly"
    assert answer("shuffled", row(dice_per_image=0.9)) == "yes"


def test_marking_nothing_takes_a_majority():
    assert answer("contradicting", row(empty_interval=interval(0.51, 0.9))) == "yes"
    assert answer("contradicting", row(empty_interval=interval(0.49, 0.9))) == "no"


@pytest.mark.parametrize("name", ["paraphrased", "typos"])
def test_other_words_may_cost_two_points(name):
    assert answer(name, row(lost=(-0.01, 0.019))) == "yes"
    assert answer(name, row(lost=(-0.01, 0.021))) == "no"


def test_floors():
    floors = {"text_only": {"images": 10, "above": interval(0.01, 0.2), "dice_per_image": 0.5},
              "image_only": {"images": 10, "above": interval(-0.01, 0.2), "dice_per_image": 0.5}}  # fmt: skip
    assert [line["answer"] for line in verdicts({}, floors)] == ["yes", "no"]
    few = {"text_only": {**floors["text_only"], "images": 9}}
    assert verdicts({}, few)[0]["answer"] == "not measured"
    assert verdicts({}, {"image_only": {"why": "none given"}})[0]["numbers"] == "none given"


def test_numbers_and_reasons():
    found = verdicts({"side_swapped": row(by="zones")}, {})[0]
    assert found["numbers"] == (
        "Dice lost 20.0 points (10.0 to 30.0) on 30 images; share inside the zones from 20.0 to 40.0 by the altered note: "
        "20.0 points (10.0 to 30.0) gained"
    )
    few = verdicts({"typos": row(images=3, left_out="no words", left_out_images=5)}, {})[0]
    assert few["numbers"] == "3 images could be asked so, and at least 10 are needed; of 5 others: no words"
    assert points(interval(-0.1, 0.2)) == "5.0 points (-10.0 to 20.0)"
    assert points(interval(-0.0002, 0.0001)) == "0.0 points (0.0 to 0.0)"
