"""Means, spreads and paired differences that a reader checks by hand."""

import json

import pytest


def run(variant, seed, right, shuffled):
    return {"variant": variant, "seed": seed, "metrics": {"right": {"dice_per_image": right},
                                                          "shuffled": {"dice_per_image": shuffled}}}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    runs = [
        *(run("default", seed, dice, 0.3) for seed, dice in enumerate([0.8, 0.7])),
        *(run("no CI", seed, dice, 0.6) for seed, dice in enumerate([0.6, 0.62, 0.1])),
    ]
    for number, each in enumerate(runs):
        (tmp_path / f"{number}.json").write_text(json.dumps(each))
    (tmp_path / ".writing-7-half.json").write_text("{")
    return tmp_path


def test_variants_are_compared_seed_by_seed(folder):
    import ablations

    found = ablations.collect(folder)
    assert {name: len(runs) for name, runs in found.items()} == {"default": 2, "no CI": 3}
    baseline = {run["seed"]: run for run in found["default"]}
    row = ablations.summarise(found["no CI"], baseline)
    assert row["dice_per_image"]["right"] == pytest.approx((60 + 62 + 10) / 3)
    assert row["spread"] == pytest.approx(52)
    # The third seed has no default to be held against.
    assert row["differences"] == pytest.approx([-20, -8]) and row["difference"] == pytest.approx(-14)


def test_every_variant_is_a_configuration():
    import ablations

    from reclmis import RecLMISConfig

    for preset in ("tiny", "small"):
        default, found = getattr(RecLMISConfig, preset)(), ablations.variants([], preset)
        for name, fields in found.items():
            assert (getattr(RecLMISConfig, preset)(**fields).to_dict() == default.to_dict()) == (name == "default"), (
                name
            )
        assert set(ablations.variants(["Table 3"], preset)) < set(found)


def test_what_cannot_be_compared_is_not():
    import ablations

    with pytest.raises(SystemExit, match="No group begins with 'Tabel 3'"):
        ablations.variants(["Tabel 3"], "tiny")
    runs = [{"variant": name, "seed": 0, "data": {"train": name}} for name in ("default", "b")]
    with pytest.raises(SystemExit, match="b, seed 0 is of other data than default"):
        ablations.check_alike(runs, {})
    ablations.check_alike([runs[0], {**runs[1], "seed": 1}], {})  # a seed may draw its own
    runs[1] |= {"data": runs[0]["data"], "options": {"epochs": 2, "seed": 0}}
    ablations.check_alike(runs, {"epochs": 2})
    with pytest.raises(SystemExit, match=r"b, seed 0 was trained with \{'epochs': 2\}, not \{'epochs': 3\}"):
        ablations.check_alike(runs, {"epochs": 3})
