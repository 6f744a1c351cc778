"""Answering over a network: what is shared, an endpoint's handler, and a demo for the browser."""

from .endpoint import EndpointHandler
from .service import Answer, RefusedRequest, SegmentationService

__all__ = ["Answer", "EndpointHandler", "RefusedRequest", "SegmentationService"]
