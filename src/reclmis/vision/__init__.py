"""Visual backbones: each turns an image into feature maps from fine to coarse."""

from .base import VisualBackbone, build_visual_backbone
from .timm_backbone import build_timm_backbone
from .unet import UNetEncoder

__all__ = ["UNetEncoder", "VisualBackbone", "build_timm_backbone", "build_visual_backbone"]
