import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from reclmis.evaluation.cases import Case, choose_cases, draw_cases
from reclmis.evaluation.html_report import histogram
from reclmis.evaluation.report import build_report, evaluations_of, markdown, read_report, write_report
from reclmis.evaluation.scores import Evaluation, ImageScore, score_split
from reclmis.evaluation.statistics import compare
from reclmis.model_card import build_model_card, eval_results, metrics_table
from reclmis.profiling import Cost
from tests.parts import NOTE_TEXT, tiny_config, tiny_model, tiny_processor

RECORD = {"command": "/home/somebody/reclmis evaluate /home/somebody/best --dataset ../data/lungs", "seed": 3,
          "versions": {"torch": "2.14"}, "commit": "c0ffee", "model": "org/best", "dataset": "lungs",
          "split": "validation", "sha256": "ab" * 32}  # fmt: skip
NASTY = '<script>alert("1")</script> | *left* lung & [more](http://example.org)'


def score(name, both, truth=10, note="left lung", surfaces=((2.0, 1.0),)):
    """10 pixels in prediction and truth of 100: Dice is a tenth of the pixels in both."""
    return ImageScore(name, None, note, (10, 10), ((both, 10, truth),), 1, surfaces)


@pytest.fixture(scope="module")
def evaluation():
    images = [score(f"scan{i:02d}", i % 11, note=NASTY if i == 0 else f"note {i}") for i in range(22)]
    return Evaluation(tuple(images))


@pytest.fixture(scope="module")
def report(evaluation):
    better = Evaluation(tuple(score(image.id, min(image.counts[0][0] + 1, 10)) for image in evaluation.images))
    return build_report(
        {"native": evaluation, "model": Evaluation(evaluation.images, scored_at="model")}, RECORD, resamples=50,
        other="org/other", comparisons={"native": compare(evaluation, better, resamples=50)},
        warnings=["2 of these images were trained on."],
    )  # fmt: skip


def cases_of(evaluation):
    picture = Image.fromarray(np.full((500, 400, 3), 90, dtype=np.uint8))
    return {kind: [Case(image, picture, picture) for image in chosen]
            for kind, chosen in choose_cases(evaluation, 2).items()}  # fmt: skip


def test_json_says_how_its_figures_came_about_and_can_be_read_back(report, evaluation, tmp_path):
    paths = write_report(tmp_path, report, cases_of(evaluation))
    assert [path.name for path in paths] == ["evaluation.json", "report.md", "report.html"]
    read = json.loads(paths[0].read_text())
    assert read == json.loads(json.dumps(report)) and read_report(paths[0]) == read_report(tmp_path)
    assert evaluations_of(read)["native"] == evaluation
    assert (read["seed"], read["sha256"], read["model"], read["scored_at"]) == (3, "ab" * 32, "org/best", "native")
    assert read["command"] == "path/to/reclmis evaluate path/to/best --dataset path/to/lungs"
    assert "diagonal" in read["empty_policy"]["surfaces"] and "empty: 0" in read["empty_policy"]["overlap"]
    assert read["metrics"]["right"] == evaluation.summary() == read["results"]["native"]["summary"]
    assert read["results"]["native"]["confidence"]["seed"] == 3
    assert sum(read["results"]["native"]["dice_histogram"]["images"]) == 22
    assert read["comparison"]["other"] == "org/other" and set(read["comparison"]["results"]) == {"native"}


def test_a_card_takes_the_report(report):
    card = str(build_model_card("org/best", tiny_config(), Cost(100, 20, 3000, 40), evaluation=report))
    assert "| right | 50.0 | 50.0 |" in card and "HD95 (per image, pixels)" in card and "| 2.0 | 1.0 |" in card
    named = {result.metric_name: result for result in eval_results(report)}
    assert named["HD95 (per image, pixels)"].metric_value == 2.0 and named["Dice (per image)"].metric_type == "dice"
    assert {"Sensitivity (pooled)", "Precision (per image)", "ASSD (per image, pixels)"} <= set(named)


def test_a_card_takes_classes_too():
    several = Evaluation((ImageScore("a", None, "n", (10, 10), ((5, 10, 10), (0, 10, 10)), 1),), num_labels=3)
    report = build_report({"native": several}, RECORD, resamples=5)
    named = {result.metric_name: result.metric_value for result in eval_results(report)}
    assert named["Dice (per image, class 1)"] == 0.5 and named["Dice (pooled, class 2)"] == 0
    assert metrics_table(report["metrics"]).splitlines()[2].startswith("| right | 25.0 |")
    assert "| Dice of class 1, % | 50.0 | 50.0 |" in markdown(report)


def test_markdown(report, evaluation):
    text = markdown(report)
    assert text.startswith("# org/best on lungs, validation\n\n**2 of these images were trained on.**")
    interval = report["results"]["native"]["confidence"]["intervals"]["dice_per_image"]
    assert f"| Dice, % | 50.0 ({100 * interval['low']:.1f} to {100 * interval['high']:.1f}) |" in text
    # All truths have one size and one area: nothing to part.
    assert "By size" not in text and "By connected areas" not in text
    assert "| Dice per image, % | 50.0 | 59.1 | -9.1 (" in text and "| 0 / 2 / 20 |" in text
    assert "<script>" not in text and "\\| \\*left\\* lung &amp; \\[more\\](" in text
    assert "seed 3" in text and "ab" * 32 in text and "50 draws of images, as no patient is known" in text


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes


def test_the_page_needs_nothing_else_and_runs_nothing(report, evaluation, tmp_path):
    text = write_report(tmp_path, report, cases_of(evaluation))[2].read_text()
    assert NASTY not in text and "&lt;script&gt;alert" in text and "default-src 'none'" in text
    page = Page()
    page.feed(text)
    assert not {"script", "link", "iframe", "object", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "href"]
    sources = [value for name, value in page.attributes if name == "src"]
    assert len(sources) == 12 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?:(?!//example\.org\))", text)
    picture = Image.open(io.BytesIO(base64.b64decode(sources[0].partition(",")[2])))
    assert picture.size == (288, 360)
    for part in ("note 10", "scan10", "2 of these images were trained on.", "Against org/other", "Worst", "found"):
        assert part in text, part


def test_the_histogram_has_a_bar_for_every_dice(report):
    drawn = histogram(report["results"]["native"])
    # Dice of 0, 0.1, ... 1, two images each.
    assert len(drawn["bars"]) == 11 and all("2 images" in bar["said"] for bar in drawn["bars"])
    assert all(drawn["left"] <= bar["x"] and bar["x"] + bar["width"] <= drawn["right"] for bar in drawn["bars"])
    assert drawn["median"]["said"] == "median 50.0" and [row["said"] for row in drawn["rows"]] == ["0", "1", "2"]


def test_worst_median_and_best(evaluation):
    chosen = choose_cases(evaluation, 2)
    # Of equal ones the first by id; 22 images: the worst are at places 0 and 1, the median ones at 10 and 11.
    assert {kind: [image.id for image in images] for kind, images in chosen.items()} == {
        "worst": ["scan00", "scan11"], "median": ["scan05", "scan16"], "best": ["scan10", "scan21"],
    }  # fmt: skip
    for count in (1, 2, 5):
        few = choose_cases(Evaluation(evaluation.images[:count]), 3)
        ids = [image.id for images in few.values() for image in images]
        assert len(ids) == len(set(ids)) == min(count, 3)
    with pytest.raises(ValueError, match="`count`"):
        choose_cases(evaluation, 0)


def test_pictures_are_of_the_images_that_were_scored():
    """A model that marks everything: what is found is green, the rest blue."""
    from reclmis.data import synthetic_dataset

    dataset = synthetic_dataset(num_train=1, num_validation=4, size=80)["validation"]
    dataset = dataset.map(lambda row: {"note": "left lung"})
    model, processor = tiny_model(text_config=NOTE_TEXT), tiny_processor(["left lung"])
    model.decoder.head.weight.data.zero_()
    model.decoder.head.bias.data.fill_(5.0)
    for size, pixels in (("native", 80), ("model", 64)):
        evaluation = score_split(model, processor, dataset, scored_at=size)
        drawn = draw_cases(model, processor, dataset, evaluation, count=1)
        assert list(drawn) == ["worst", "median", "best"]
        case = drawn["best"][0]
        assert case.score == max(evaluation.images, key=lambda image: (image.dice, image.id))
        assert case.image.size == case.agreement.size == (pixels, pixels)
        shift = np.asarray(case.agreement).astype(int) - np.asarray(case.image)
        green = (shift[..., 1] - shift[..., 2] > 20).sum()
        assert green == pytest.approx(case.score.counts[0][0], rel=0.02) and green < pixels * pixels / 2
        assert (shift[..., 2] - shift[..., 1] > 20).sum() == pytest.approx(pixels * pixels - green, rel=0.02)
    with pytest.raises(ValueError, match="no image 'synthetic_0_"):
        draw_cases(model, processor, dataset.select([0]), evaluation)


def test_few_images_are_said(evaluation):
    few = build_report({"native": Evaluation(evaluation.images[:6])}, RECORD, resamples=5)
    assert few["warnings"] == [
        "Intervals over 6 patients or images are narrower than they should be; read them as a hint."
    ]
    assert build_report({"native": evaluation}, RECORD, resamples=5)["warnings"] == []


def test_mistakes_are_named(evaluation, tmp_path):
    with pytest.raises(ValueError, match="needs sha256"):
        build_report({"native": evaluation}, {key: value for key, value in RECORD.items() if key != "sha256"})
    with pytest.raises(ValueError, match="needs an evaluation"):
        build_report({}, RECORD)
    with pytest.raises(FileNotFoundError, match="No report at"):
        read_report(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"metrics": {"right": {}}}')
    with pytest.raises(ValueError, match="no report of `reclmis evaluate`"):
        read_report(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        read_report(tmp_path)


def test_strata_are_tables_where_there_is_more_than_one():
    mixed = Evaluation((score("a", 1, truth=1), score("b", 2, truth=20), score("c", 2, truth=2)))
    text = markdown(build_report({"native": mixed}, RECORD, resamples=5))
    # c: 2 of 12 pixels twice
    assert "| small | 1 % to below 5 % of the image | 2 | 25.8 | 26.1 |" in text
    assert "| tiny | above 0 and below 1 % of the image | 0 |  |  |" in text
    assert "| largest quarter | above 11 % up to 20 % of the image | 1 |" in text and "By connected areas" not in text
