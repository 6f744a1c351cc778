import pytest

from reclmis.data import patient_of


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("sub-s03047_ses-e07985_run-1_bp-chest_vp-ap_dx", "sub-s03047"),
        ("TCGA-18-5592-01Z-00-DX1", "TCGA-18-5592"),
        ("TCGA-DK-A2I6-01A-01-TS1", "TCGA-DK-A2I6"),
        ("Morozov_study_0255_14", "Morozov_study_0255"),
        ("Jun_coronacases_case10_103", "Jun_coronacases_case10"),
        ("Jun_radiopaedia_10_85902_3_case12_107", "Jun_radiopaedia_10_85902_3_case12"),
        ("train/patient00012_study1_view1", "patient00012"),
        ("study_0255@31", "study_0255"),
        ("covid_1002", None),
        ("bjorke_10", None),
        ("subway_3", None),
    ],
)
def test_names_that_tell_the_patient(name, patient):
    assert patient_of(name) == patient
