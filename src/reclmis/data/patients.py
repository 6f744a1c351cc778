"""Whom an image shows, as far as its file name tells."""

import re

# Each pattern's first group is what images of one person or one scan have in common.
_PATTERNS = (
    # BIDS, as BIMCV-COVID19 within QaTa-COV19: sub-s03047_ses-e07985_run-1_bp-chest_vp-ap_dx
    re.compile(r"(sub-[A-Za-z0-9]+)(?:_.*)?"),
    # The Cancer Genome Atlas, as in MoNuSeg: project, site and participant of a barcode
    re.compile(r"(TCGA-[A-Z0-9]{2}-[A-Z0-9]{3,4})(?:-.*)?"),
    # MosMedData+: a slice's number after its scan
    re.compile(r"(Morozov_study_\d+|study_\d+|Jun_\w+_case\d+)(?:_mask)?(?:[_@]\d+)?"),
    # CheXpert, MIMIC-CXR and many folders made by hand
    re.compile(r"((?:patient|subject|pat|subj)[-_]?\d+)(?:[-_].*)?", re.IGNORECASE),
)


def patient_of(sample_id: str) -> str | None:
    """The patient, or where only scans have names the scan, of a sample; `None` where its name does not tell."""
    name = sample_id.rsplit("/", 1)[-1]
    for pattern in _PATTERNS:
        match = pattern.fullmatch(name)
        if match:
            return match[1]
    return None
