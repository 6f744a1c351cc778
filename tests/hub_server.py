"""A Hub on the loopback: what huggingface_hub asks of the real one to create, commit, list and download, in memory.

No package of the index accepts pushes (`olah` mirrors, `hf-local-hub` copies folders), hence this one. Commits are atomic,
as they are on the Hub: files of a broken push are never seen.
"""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_right"
OWNER = "org"
EMPTY = "0" * 40
LFS_SUFFIXES = (".safetensors", ".parquet", ".arrow")


class Repository:
    """Branches and commits; a commit maps paths to contents."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {EMPTY: {}}
        self.branches = {"main": EMPTY}

    def commit_of(self, revision: str) -> str | None:
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None


class HubServer(ThreadingHTTPServer):
    """`requests` counts what was asked; `breaking` holds regular expressions of requests that are cut off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.breaking: set[str] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        return repository.commits[repository.branches.get(revision, revision)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {path}"
        with self.server.lock:
            self.server.requests[line] += 1
            if any(re.search(pattern, line) for pattern in self.server.breaking):
                self.close_connection = True
                return
            for pattern, answer in ROUTES:
                match = re.fullmatch(pattern, line)
                if match is not None:
                    answer(self, *match.groups(), body)
                    return
        self._send(404, {"error": f"no route for {line}"})

    def _send(self, status: int, content=None, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        length = (headers or {}).pop("Content-Length", str(len(data)))
        for key, value in {"Content-Type": "application/json", "Content-Length": length, **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _writer(self, name: str = OWNER) -> bool:
        """Whether the request may write; answers it if not."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token != TOKEN:
            self._send(401, {"error": "Invalid credentials in Authorization header"})
        elif name.removeprefix("datasets/").split("/")[0] != OWNER:
            self._send(403, {"error": "You don't have the rights to create or change this repository"})
        else:
            return True
        return False

    def _repository(self, name: str, revision: str | None = None) -> tuple[Repository, str] | None:
        """A repository and commit; answers the request if there is none."""
        repository = self.server.repositories.get(name)
        commit = None if repository is None else repository.commit_of(revision or "main")
        if commit is not None:
            return repository, commit
        code = "RepoNotFound" if repository is None else "RevisionNotFound"
        self._send(404, {"error": "not found"}, {"X-Error-Code": code, "X-Error-Message": "not found"})
        return None

    # What is asked ---------------------------------------------------------------------------------------------------

    def whoami(self, body) -> None:
        if self._writer():
            self._send(200, {"type": "user", "name": OWNER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def yaml(self, body) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def create(self, body) -> None:
        asked = json.loads(body)
        prefix = "datasets/" if asked.get("type") == "dataset" else ""
        name = f"{prefix}{asked.get('organization') or OWNER}/{asked['name']}"
        if not self._writer(name):
            return
        known = name in self.server.repositories
        self.server.repositories.setdefault(name, Repository())
        self._send(409 if known else 200, {"url": f"{self.server.url}/{name}"})

    def delete(self, body) -> None:
        asked = json.loads(body)
        prefix = "datasets/" if asked.get("type") == "dataset" else ""
        name = f"{prefix}{asked.get('organization') or OWNER}/{asked['name']}"
        if self._writer(name):
            self.server.repositories.pop(name, None)
            self._send(200, {})

    def branch(self, name, branch, body) -> None:
        if self._writer(name) and (found := self._repository(name)):
            found[0].branches.setdefault(branch, found[1])
            self._send(200, {})

    def preupload(self, name, revision, body) -> None:
        if self._writer(name) and self._repository(name, revision):
            files = [{"path": file["path"], "shouldIgnore": False,
                      "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"}
                     for file in json.loads(body)["files"]]  # fmt: skip
            self._send(200, {"files": files})

    def batch(self, name, body) -> None:
        if self._writer(name):
            objects = [{**entry, "actions": {"upload": {"href": f"{self.server.url}/objects/{entry['oid']}"}}}
                       for entry in json.loads(body)["objects"]]  # fmt: skip
            self._send(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid, body) -> None:
        right = hashlib.sha256(body).hexdigest() == oid
        if right:
            self.server.objects[oid] = body
        self._send(200 if right else 400, {})

    def commit(self, name, revision, body) -> None:
        if not self._writer(name) or not (found := self._repository(name, revision)):
            return
        repository, parent = found
        files = dict(repository.commits[parent])
        for entry in map(json.loads, body.splitlines()):
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.server.objects:
                    return self._send(400, {"error": f"{value['path']} was never uploaded"})
                files[value["path"]] = self.server.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        oid = hashlib.sha1(body + parent.encode()).hexdigest()
        repository.commits[oid] = files
        repository.branches[revision] = oid
        url = f"{self.server.url}/{name}"
        return self._send(200, {"success": True, "commitOid": oid, "commitUrl": f"{url}/commit/{oid}"})

    def info(self, name, revision, body) -> None:
        if found := self._repository(name, revision):
            repository, commit = found
            siblings = [{"rfilename": path} for path in sorted(repository.commits[commit])]
            plain = name.removeprefix("datasets/")
            self._send(200, {"_id": plain, "id": plain, "modelId": plain, "sha": commit, "private": False, "tags": [],
                             "downloads": 0, "likes": 0, "gated": False, "disabled": False, "siblings": siblings,
                             "lastModified": "2026-01-01T00:00:00.000Z"})  # fmt: skip

    def refs(self, name, body) -> None:
        if found := self._repository(name):
            branches = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": c} for b, c in found[0].branches.items()]
            self._send(200, {"branches": branches, "tags": [], "converts": []})

    def tree(self, name, revision, folder, body) -> None:
        if not (found := self._repository(name, revision)):
            return
        folder = (folder or "").strip("/")
        entries = self._entries(found, folder)
        if folder and not entries:
            self._send(404, {"error": "no such folder"}, {"X-Error-Code": "EntryNotFound"})
        else:
            self._send(200, entries)

    def paths(self, name, revision, body) -> None:
        if found := self._repository(name, revision):
            from urllib.parse import parse_qs

            text = body.decode()
            wanted = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
            self._send(200, [entry for entry in self._entries(found, "") if entry["path"] in wanted])

    @staticmethod
    def _entries(found, folder: str) -> list[dict]:
        repository, commit = found
        files, entries = repository.commits[commit], []
        parents = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
        for path in sorted(parents | files.keys()):
            if folder and not path.startswith(f"{folder}/"):
                continue
            if path in parents:
                entries.append({"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(),
                                "size": 0})  # fmt: skip
                continue
            data = files[path]
            entry = {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
            if path.endswith(LFS_SUFFIXES):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 100}
            entries.append(entry)
        return entries

    def resolve(self, name, revision, path, body) -> None:
        if not (found := self._repository(name, revision)):
            return
        repository, commit = found
        data = repository.commits[commit].get(path)
        if data is None:
            return self._send(404, {"error": "no file"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        etag = hashlib.sha256(data).hexdigest() if path.endswith(LFS_SUFFIXES) else _blob(data)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Content-Type": "application/octet-stream"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if span is None:
            return self._send(200, data, headers)
        first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self._send(206, data[first : last + 1], headers)


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


NAME = r"((?:datasets/)?[\w.-]+/[\w.-]+)"
# The API's paths say "models/" where the others say nothing.
API = r"/api/(?:models/)?" + NAME
ROUTES = [
    (r"GET /api/whoami-v2", Handler.whoami),
    (r"POST /api/validate-yaml", Handler.yaml),
    (r"POST /api/repos/create", Handler.create),
    (r"DELETE /api/repos/delete", Handler.delete),
    (rf"POST {API}/branch/([^/]+)", Handler.branch),
    (rf"POST {API}/preupload/([^/]+)", Handler.preupload),
    (rf"POST /{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /objects/(\w+)", Handler.upload),
    (rf"POST {API}/commit/([^/]+)", Handler.commit),
    (rf"GET {API}/refs", Handler.refs),
    (rf"GET {API}/tree/([^/]+)(/.*)?", Handler.tree),
    (rf"POST {API}/paths-info/([^/]+)", Handler.paths),
    (rf"GET {API}(?:/revision/([^/]+))?", Handler.info),
    (rf"(?:GET|HEAD) /{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]


@contextmanager
def running_hub():
    """A server for the time of a `with` block."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
