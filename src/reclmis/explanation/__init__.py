"""Why a mask is where it is: the variables behind an answer (paper Figures 10, 13, 14), checks of them, and figures.

```python
explanation = explain(model, processor, image, "middle left lung")
overview(explanation, grad_cam(model, processor, image, "middle left lung")).savefig("why.png")
```
"""

from .checks import DeletionInsertion, RandomisationCheck, deletion_insertion, randomisation_check
from .figures import deletion_insertion_curves, note_panel, overview, randomisation_curves
from .gradcam import grad_cam
from .maps import Explanation, explain
from .removal import word_removal

__all__ = [
    "DeletionInsertion",
    "Explanation",
    "RandomisationCheck",
    "deletion_insertion",
    "deletion_insertion_curves",
    "explain",
    "grad_cam",
    "note_panel",
    "overview",
    "randomisation_check",
    "randomisation_curves",
    "word_removal",
]
