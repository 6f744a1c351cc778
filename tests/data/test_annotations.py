import numpy as np
import pytest

from reclmis.data.annotations import AnnotationError, read_annotation


def region(*corners):
    return "<Region><Vertices>" + "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners) + "</Vertices></Region>"


def write(path, *regions):
    body = "".join(regions)
    path.write_text(f"<Annotations><Annotation><Regions>{body}</Regions></Annotation></Annotations>")
    return path


def test_outlines_become_areas(tmp_path):
    square = region((2, 3), (6, 3), (6, 5), (2, 5))
    triangle = region((10, 0), (16, 0), (10, 6))
    mask = read_annotation(write(tmp_path / "a.xml", square, triangle), (8, 20))
    assert mask.shape == (8, 20) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert mask[:, :10].sum() == 8 and mask[3:5, 2:6].all()
    # Half of the triangle's rectangle; pixels on the diagonal are half covered.
    assert 15 <= mask[:, 10:].sum() <= 21 and mask[0, 10:15].all() and not mask[5, 12:].any()


def test_the_area_of_a_circle_is_kept(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    corners = [(50 + 30 * np.cos(angle), 40 + 30 * np.sin(angle)) for angle in angles]
    mask = read_annotation(write(tmp_path / "a.xml", region(*corners)), (90, 100))
    rows, columns = np.nonzero(mask)
    assert mask.sum() == pytest.approx(np.pi * 30**2, rel=0.01)
    assert (columns.mean(), rows.mean()) == pytest.approx((49.5, 39.5), abs=0.3)


def test_clicks_without_area_and_what_lies_outside(tmp_path):
    beyond = region((-5, -5), (3, -5), (3, 3), (-5, 3))
    mask = read_annotation(write(tmp_path / "a.xml", region((1, 1)), region((4, 4), (5, 5)), beyond), (6, 6))
    assert mask[:2, :2].all() and not mask[4:, 4:].any()


ENTITY = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><Annotations><Region><Vertex X="1" Y="1"/></Region>&a;</Annotations>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "0 bytes"),
        ("<Annotations><Region>", "no annotation"),
        ("plain text", "no annotation"),
        ("<Annotations/>", "no Region"),
        ('<A><Region><Vertex X="1"/></Region></A>', "no annotation"),
        ('<A><Region><Vertex X="one" Y="2"/></Region></A>', "no annotation"),
        ('<A><Region><Vertex X="nan" Y="2"/></Region></A>', "nan or infinite"),
        (ENTITY, "no annotation"),
        (f"<A>{region((900, 900), (910, 900), (910, 910))}</A>", "outside the image of 20 x 10"),
    ],
)
def test_what_cannot_be_read_names_the_file(tmp_path, content, message):
    (tmp_path / "bad.xml").write_text(content)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_annotation(tmp_path / "bad.xml", (10, 20))
    assert "bad.xml" in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(AnnotationError, match="missing"):
        read_annotation(tmp_path / "none.xml", (10, 20))
