"""`reclmis info`: what a model is made of."""

import argparse

from .loading import load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="folder or Hub id")


def run(args: argparse.Namespace) -> int:
    model, processor = load_model(args.model, prune=False)
    config = model.config
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        parts[name.split(".")[0]] = parts.get(name.split(".")[0], 0) + parameter.numel()
    print(f"visual backbone   {config.visual_backbone}, stride {model.backbone_stride}")
    print(f"text encoder      {config.text_encoder}{' (frozen)' if config.text_frozen else ''}")
    print(f"classes           {', '.join(config.id2label.values())}")
    print(f"image size        {config.image_size} x {config.image_size} pixels")
    print(f"note length       {processor.max_length} tokens")
    print(f"pruned            {'yes' if config.prune_reconstruction else 'no'}")
    for name, count in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"{name:<24}{count / 1e6:>9.2f} M parameters")
    print(f"{'in all':<24}{sum(parts.values()) / 1e6:>9.2f} M parameters")
    return 0
