# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A Hub on the loopback address: the calls with which `huggingface_hub` uploads a model over LFS and downloads it again.

Xet, the Hub's newer storage, has a protocol of its own and is not here: clients run with `HF_HUB_DISABLE_XET=1`.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

USER = "loopback-user"
_FRONT = re.compile(r"^---\n(.*?)\n---\n", re.DOTALL)


class Hub(ThreadingHTTPServer):
    """
    The state of the Hub.

    Attributes:
        token (`str`): The only one that may write, and read.
        repos (`dict[str, dict[str, bytes]]`): Repository → path → content of the last commit.
        objects (`dict[str, bytes]`): LFS objects by their SHA-256.
        calls (`list[str]`): Method and path of every request.
        refuse (`tuple[str, int]`, *optional*): Requests whose path holds the text get this status, and an answer that quotes
            their own headers.
        private (`set[str]`): Repositories that are not public.
    """

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.repos: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.messages: list[str] = []
        self.refuse: tuple[str, int] | None = None
        self.private: set[str] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serve_hub(token: str) -> Iterator[Hub]:
    hub = Hub(token)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, status: int, content: object = None, headers: dict[str, str] | None = None) -> None:
        payload = (
            content if isinstance(content, bytes) else json.dumps(content if content is not None else {}).encode()
        )
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    def _not_found(self, code: str) -> None:
        self._send(404, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def _handle(self) -> None:
        body, path = self._body(), unquote(urlsplit(self.path).path)
        self.server.calls.append(f"{self.command} {path}")
        if self.server.refuse and self.server.refuse[0] in path:
            # Servers and proxies in front of them have been seen to quote what they were sent
            return self._send(self.server.refuse[1], {"error": f"refused: {dict(self.headers)}"})
        is_storage = path.startswith("/storage/")  # its addresses are signed, they need no token
        if not is_storage and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._send(401, {"error": "Invalid username or password."})
        for method, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                return action(self, body, *match.groups())
        return self._not_found("EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = _handle

    def _whoami(self, body: bytes) -> None:
        self._send(200, {"type": "user", "name": USER, "orgs": []})

    def _create(self, body: bytes) -> None:
        asked = json.loads(body)
        repo = f"{asked['organization'] or USER}/{asked['name']}"
        if not repo.startswith(USER + "/"):
            return self._send(403, {"error": f"You don't have the rights to create a model under {repo}"})
        existed = repo in self.server.repos
        self.server.repos.setdefault(repo, {})
        if not existed and (asked.get("private") or asked.get("visibility") == "private"):
            self.server.private.add(repo)
        return self._send(409 if existed else 200, {"url": f"{self.server.endpoint}/{repo}", "name": repo, "id": repo})

    def _validate(self, body: bytes) -> None:
        errors = []
        front = _FRONT.match(json.loads(body)["content"])
        try:
            metadata = yaml.safe_load(front[1]) if front else None
        except yaml.YAMLError as error:
            metadata, errors = {}, [{"message": str(error)}]
        if not isinstance(metadata, dict):
            errors.append({"message": "no metadata"})
        for model in (metadata or {}).get("model-index", []):
            for result in model["results"]:
                known = {"task", "dataset", "metrics", "source"} >= set(result)
                if not known or not all({"type", "value"} <= set(metric) for metric in result["metrics"]):
                    errors.append({"message": f"model-index: {result}"})
        self._send(400 if errors else 200, {"errors": errors, "warnings": []})

    def _preupload(self, body: bytes, repo: str) -> None:
        if repo not in self.server.repos:
            return self._not_found("RepoNotFound")
        files = []
        for file in json.loads(body)["files"]:
            is_lfs = file["path"].endswith(".safetensors") or file["size"] > 10 * 2**20
            content = self.server.repos[repo].get(file["path"])
            oid = None
            if content is not None:
                oid = hashlib.sha256(content).hexdigest() if is_lfs else git_hash(content)
            mode = "lfs" if is_lfs else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return self._send(200, {"files": files})

    def _batch(self, body: bytes, repo: str) -> None:
        objects = []
        for item in json.loads(body)["objects"]:
            if item["oid"] not in self.server.objects:
                upload = {"href": f"{self.server.endpoint}/storage/{item['oid']}"}
                verify = {"href": f"{self.server.endpoint}/api/complete/{repo}"}
                item = {**item, "actions": {"upload": upload, "verify": verify}}
            objects.append(item)
        self._send(200, {"transfer": "basic", "objects": objects})

    def _store(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self._send(400, {"error": "the content has another SHA-256"})
        self.server.objects[oid] = body
        return self._send(200)

    def _verify(self, body: bytes, repo: str) -> None:
        asked = json.loads(body)
        ok = len(self.server.objects.get(asked["oid"], b"")) == asked["size"]
        self._send(200 if ok else 404)

    def _commit(self, body: bytes, repo: str) -> None:
        files = self.server.repos[repo]
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.server.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
            else:
                return self._send(400, {"error": f"unknown operation {entry['key']}"})
        commit = self._sha(repo)
        return self._send(200, {"commitUrl": f"{self.server.endpoint}/{repo}/commit/{commit}", "commitOid": commit})

    def _sha(self, repo: str) -> str:
        listed = json.dumps({path: git_hash(content) for path, content in sorted(self.server.repos[repo].items())})
        return hashlib.sha1(listed.encode()).hexdigest()

    def _info(self, body: bytes, repo: str, revision: str | None = None) -> None:
        if repo not in self.server.repos:
            return self._not_found("RepoNotFound")
        siblings = [{"rfilename": path} for path in sorted(self.server.repos[repo])]
        private = repo in self.server.private
        return self._send(
            200, {"id": repo, "sha": self._sha(repo), "siblings": siblings, "private": private, "tags": []}
        )

    def _tree(self, body: bytes, repo: str, revision: str, folder: str | None) -> None:
        inside = {p: c for p, c in self.server.repos[repo].items() if not folder or p.startswith(folder + "/")}
        if folder and not inside:
            return self._not_found("EntryNotFound")
        listed = [{"type": "file", "path": p, "size": len(c), "oid": git_hash(c)} for p, c in sorted(inside.items())]
        return self._send(200, listed)

    def _resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        if repo not in self.server.repos:
            return self._not_found("RepoNotFound")
        content = self.server.repos[repo].get(path)
        if content is None:
            return self._not_found("EntryNotFound")
        return self._send(200, content, {"ETag": f'"{git_hash(content)}"', "X-Repo-Commit": self._sha(repo)})


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    (("GET",), "/api/whoami-v2", _Handler._whoami),
    (("POST",), "/api/repos/create", _Handler._create),
    (("POST",), "/api/validate-yaml", _Handler._validate),
    (("POST",), rf"/api/models/{_REPO}/preupload/main", _Handler._preupload),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler._batch),
    (("PUT",), r"/storage/(\w+)", _Handler._store),
    (("POST",), rf"/api/complete/{_REPO}", _Handler._verify),
    (("POST",), rf"/api/models/{_REPO}/commit/main", _Handler._commit),
    (("GET",), rf"/api/models/{_REPO}(?:/revision/([\w.-]+))?", _Handler._info),
    (("GET",), rf"/api/models/{_REPO}/tree/([\w.-]+)(?:/(.+))?", _Handler._tree),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/([\w.-]+)/(.+)", _Handler._resolve),
)
