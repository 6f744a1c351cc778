"""For `trust_remote_code=True`. Remote code is single files, and RecLMIS is a package: where that is not installed, the
import below makes transformers say what to install."""

from reclmis import RecLMISConfig, RecLMISImageProcessor, RecLMISModel, RecLMISProcessor

__all__ = ["RecLMISConfig", "RecLMISImageProcessor", "RecLMISModel", "RecLMISProcessor"]
