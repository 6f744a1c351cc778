"""For a model's repository, beside its weights: Hugging Face's inference endpoints look for this file and class.

`requirements.txt` beside it names `reclmis`.
"""

from reclmis.serving import EndpointHandler

__all__ = ["EndpointHandler"]
