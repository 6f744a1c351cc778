"""What every test may rely on: no network, and the same seed."""

import os
import socket
from pathlib import Path

# Before any library reads them.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("RECLMIS_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Connections leave this machine in no test; sockets within it stay open for worker processes."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in ("127.0.0.1", "localhost", "::1"):
            raise OSError(f"A test tried to reach {address}.")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden files and real data that lies beside a development checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"No development data at {SHARED}; set RECLMIS_SHARED to run this test.")
    return SHARED


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A model with a null note, and the folder of its export to ONNX, which takes a while to make."""
    from reclmis.exporting import export_onnx
    from tests.parts import NOTE_TEXT, lively, tiny_model, tiny_processor

    model = lively(tiny_model(text_config=NOTE_TEXT, note_dropout=0.2))
    processor = tiny_processor(["upper left lung", "lower right lung"])
    return model, export_onnx(model, processor, tmp_path_factory.mktemp("one") / "exported")
