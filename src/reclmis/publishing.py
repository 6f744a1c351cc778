"""Checkpoint folder -> Hub repository, in one commit: the remote has all of it or nothing."""

import json
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from .errors import one_line
from .model_card import build_model_card
from .modeling_reclmis import RecLMISModel
from .processing_reclmis import RecLMISProcessor
from .profiling import count_cost

try:
    import httpx2 as httpx  # what huggingface_hub 2 speaks with
except ImportError:  # pragma: no cover
    import httpx  # type: ignore[no-redef]

SAFE_SUFFIXES = (".safetensors", ".json", ".txt", ".md", ".jinja")


REMOTE_CODE = Path(__file__).parent / "templates" / "remote_code.py"
_AUTO_CLASSES = {"AutoConfig": "RecLMISConfig", "AutoModel": "RecLMISModel", "AutoProcessor": "RecLMISProcessor",
                 "AutoImageProcessor": "RecLMISImageProcessor"}  # fmt: skip


class PushError(RuntimeError):
    """A push that did not happen. The message says why, in one sentence; the remote is as it was."""


def checkpoint_files(folder: str | Path) -> list[Path]:
    """The files of a checkpoint, in order.

    Raises:
        FileNotFoundError: no such folder, or no configuration in it.
        ValueError: anything that is no part of a checkpoint: a subfolder, a link, or a file of a kind that could carry
            code. It is named.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no model: config.json is missing.")
    entries = sorted(folder.iterdir())
    foreign = [
        entry.name
        for entry in entries
        if entry.is_symlink() or not entry.is_file() or entry.suffix not in SAFE_SUFFIXES
    ]
    if foreign:
        raise ValueError(
            f"{folder} holds {', '.join(foreign)}, which is no part of a published model (only plain files "
            f"{', '.join(SAFE_SUFFIXES)} are). Remove it, or save the model to a folder of its own."
        )
    return entries


def card_of_checkpoint(
    folder: str | Path,
    repo_id: str,
    *,
    evaluation: Mapping[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
    license: str | None = None,
    data_terms: str | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> ModelCard:
    """The card of the model in a folder, which is loaded on the way: what does not load is not published.

    Raises:
        ValueError: a damaged or incomplete checkpoint, or see [`build_model_card`].
        OSError: files that are missing.
    """
    whole = RecLMISModel.from_pretrained(str(folder))
    RecLMISProcessor.from_pretrained(str(folder))
    already = whole.config.prune_reconstruction
    pruned = whole if already else RecLMISModel.from_pretrained(str(folder), prune_reconstruction=True)
    return build_model_card(
        repo_id,
        whole.config,
        count_cost(pruned),
        training_parameters=None if already else whole.num_parameters(),
        evaluation=evaluation,
        run=run,
        license=license,
        data_terms=data_terms,
        certificate=certificate,
    )


def remote_code_files(folder: str | Path) -> dict[str, bytes]:
    """What makes `AutoModel.from_pretrained(..., trust_remote_code=True)` name the package to install where it is missing.

    transformers' remote code is made of single files and cannot carry this package. So it is one file that imports it, and a
    configuration that points there; where the package is installed, neither is used.

    Returns:
        File names and contents, to be added to the published folder; they are never part of a saved one.
    """
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {auto: f"{REMOTE_CODE.stem}.{name}" for auto, name in _AUTO_CLASSES.items()}
    return {"config.json": (json.dumps(config, indent=2) + "\n").encode(), REMOTE_CODE.name: REMOTE_CODE.read_bytes()}


def push_checkpoint(
    folder: str | Path,
    repo_id: str,
    card: ModelCard,
    *,
    private: bool = False,
    revision: str = "main",
    message: str = "Upload model",
    remote_code: bool = False,
    token: str | None = None,
    api: HfApi | None = None,
) -> CommitInfo:
    """Publishes a folder in one commit, with its card as README.md.

    The commit also removes weight files of an earlier push that the folder no longer has. A repository that was created
    for a push that then failed is removed again.

    Args:
        folder: as `save_pretrained` of model and processor wrote it.
        repo_id: `org/name`.
        card: see [`card_of_checkpoint`].
        private: of a repository that is created.
        revision: branch; created from the default one where it is missing.
        message: of the commit.
        remote_code: also publish [`remote_code_files`].
        token: of the Hub; `None` takes the stored one.
        api: client of another endpoint.

    Raises:
        FileNotFoundError, ValueError: see [`checkpoint_files`].
        PushError: no token, a wrong one, no right to write, no network, or a malformed name.
    """
    files = checkpoint_files(folder)
    api = api or HfApi()
    token = token or api.token or get_token()  # type: ignore[assignment]
    if not token:
        raise PushError(
            "No token of the Hub is stored here: run `hf auth login`, set HF_TOKEN, or pass `token`, with one that may "
            "write."
        )
    with _readable(repo_id, api.endpoint):
        created = _create(api, repo_id, private, token)
        try:
            if revision != "main":
                api.create_branch(repo_id, branch=revision, token=token, exist_ok=True)
            present = set(api.list_repo_files(repo_id, revision=revision, token=token))
            contents: dict[str, Any] = {path.name: path for path in files} | {"README.md": str(card).encode()}
            if remote_code:
                contents |= remote_code_files(folder)
            operations: list[Any] = [CommitOperationAdd(name, content) for name, content in contents.items()]
            stale = present - {operation.path_in_repo for operation in operations}
            operations += [CommitOperationDelete(name) for name in sorted(stale) if _is_weights(name)]
            return api.create_commit(repo_id, operations, commit_message=message, revision=revision, token=token)
        except BaseException:
            if created:
                _forget(api, repo_id, token)
            raise


def read_record(path: str | Path) -> dict[str, Any]:
    """A JSON record of an evaluation or a training.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No record at {path}.")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds a {type(record).__name__}, not an object.")
    return record


def _create(api: HfApi, repo_id: str, private: bool, token: str) -> bool:
    """Whether the repository had to be created."""
    try:
        api.create_repo(repo_id, private=private, token=token, exist_ok=False)
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 409:
            return False
        raise
    return True


def _forget(api: HfApi, repo_id: str, token: str) -> None:
    try:
        api.delete_repo(repo_id, token=token, missing_ok=True)
    except (HfHubHTTPError, httpx.HTTPError, OSError):
        # The network that broke the push may still be down; what is left is an empty repository.
        return


def _is_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".safetensors.index.json"))


@contextmanager
def _readable(repo_id: str, endpoint: str):
    """The ways in which a push fails, each in one sentence."""
    try:
        yield
    except HFValidationError as error:
        raise PushError(f"{repo_id!r} is no name of a repository; it has the form 'org/name': {error}") from error
    except OfflineModeIsEnabled as error:
        raise PushError("Offline mode is on (HF_HUB_OFFLINE): unset it to push.") from error
    except HfHubHTTPError as error:
        status = None if error.response is None else error.response.status_code
        reasons = {
            401: f"{endpoint} does not accept the token: log in again with `hf auth login`.",
            403: f"The token may not write to {repo_id!r}: use one with write access, or another owner.",
            404: f"{endpoint} knows no {repo_id!r} that this token may see.",
        }
        raise PushError(reasons.get(status or 0, f"{endpoint} refused the push: {one_line(error)}")) from error
    except (httpx.HTTPError, ConnectionError, TimeoutError) as error:
        raise PushError(
            f"{endpoint} could not be reached, or broke off ({one_line(error)}): nothing was published; try again."
        ) from error


__all__ = ["PushError", "card_of_checkpoint", "checkpoint_files", "push_checkpoint", "read_record"]
