"""`reclmis push`: a checkpoint folder -> a repository of the Hub, with a card."""

import argparse
from pathlib import Path

from ..errors import one_line
from . import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="model folder, as save_pretrained or training wrote it")
    parser.add_argument("repo_id", help="org/name")
    parser.add_argument("--evaluation", type=Path, help="JSON that examples/evaluate.py wrote, for the card")
    parser.add_argument("--certificate", type=Path, help="JSON that `reclmis certify` wrote, for the card")
    parser.add_argument("--run", type=Path, dest="record", help="run.json of the training, for the card; by default the "
                        "one beside the folder")  # fmt: skip
    parser.add_argument("--license", help="identifier of the Hub, such as apache-2.0")
    parser.add_argument("--data-terms", help="terms of the training data, where they are not known by name")
    parser.add_argument("--private", action="store_true", help="if the repository is created")
    parser.add_argument("--revision", default="main", help="branch")
    parser.add_argument("--message", default="Upload model")
    parser.add_argument("--remote-code", action="store_true", help="add the file that names this package to those who load "
                        "the model without it, with trust_remote_code=True")  # fmt: skip
    parser.add_argument("--card-only", type=Path, metavar="FILE", help="write the card there, and push nothing")


def run(args: argparse.Namespace) -> int:
    from ..publishing import PushError, card_of_checkpoint, checkpoint_files, push_checkpoint, read_record
    from .loading import without_loading_bar

    beside = args.folder.parent / "run.json"
    record = args.record or (beside if beside.is_file() else None)
    try:
        checkpoint_files(args.folder)
        with without_loading_bar():
            card = card_of_checkpoint(
                args.folder,
                args.repo_id,
                evaluation=None if args.evaluation is None else read_record(args.evaluation),
                run=None if record is None else read_record(record),
                license=args.license,
                data_terms=args.data_terms,
                certificate=None if args.certificate is None else read_record(args.certificate),
            )
        if args.card_only is not None:
            args.card_only.write_text(str(card), encoding="utf-8")
            print(f"Card written to {args.card_only}.")
            return 0
        commit = push_checkpoint(
            args.folder, args.repo_id, card, private=args.private, revision=args.revision, message=args.message,
            remote_code=args.remote_code,
        )  # fmt: skip
    except (PushError, ValueError, OSError) as error:
        raise CommandError(one_line(error)) from error
    print(f"Published as {args.repo_id}: {commit.commit_url}")
    return 0
