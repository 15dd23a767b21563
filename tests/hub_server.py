"""A Hugging Face Hub on loopback: real commits, revisions, LFS and tokens, and faults to order."""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import uvicorn
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

LFS_BYTES = 2**20  # text files beyond this size, and all binary ones, go to LFS
PREFIXES = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}


@dataclass
class Fault:
    """What the server does instead of, or to, an answer.

    Attributes:
        action: "status" answers with `status`; "lose answer" does what was asked for and closes
            the connection then; "silence" never answers; "answer" answers as usual, after `then`.
        method: GET, POST …; any if empty.
        path: regular expression that is searched for in the path.
        times: how often; None: for ever.
        headers: of the answer with a status, such as Retry-After.
        then: called as the fault happens.
    """

    action: str
    path: str = ""
    method: str = ""
    times: int | None = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    then: Callable[[], object] | None = None

    def concerns(self, method: str, path: str) -> bool:
        """Tells whether a request is hit, and counts it."""
        hit = self.method in ("", method) and re.search(self.path, path) and self.times != 0
        if hit and self.times is not None:
            self.times -= 1
        return bool(hit)


@dataclass(frozen=True)
class Blob:
    """A file of a commit; `lfs` is the SHA-256 of one that lies in LFS storage."""

    content: bytes
    lfs: str | None = None

    @property
    def oid(self) -> str:
        """The hash that Git gives to the file, or to its LFS pointer."""
        stored = self.content
        if self.lfs:
            pointer = "version https://git-lfs.github.com/spec/v1\n"
            pointer += f"oid sha256:{self.lfs}\nsize {len(self.content)}\n"
            stored = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    sha: str
    parent: str | None
    title: str
    files: dict[str, Blob]
    date: str


@dataclass
class Repository:
    """A repository with its history."""

    kind: str
    name: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[str, str] = field(default_factory=dict)
    variables: dict[str, dict[str, str]] = field(default_factory=dict)
    sdk: str | None = None
    hardware: str = "cpu-basic"

    def resolve(self, revision: str) -> Commit | None:
        """Returns the commit of a branch, tag, pull request, hash or shortened hash."""
        for names in (self.branches, self.tags, self.pull_requests):
            if revision in names:
                return self.commits[names[revision]]
        found = [sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)]
        return self.commits[found[0]] if len(found) == 1 else None

    def add(self, parent: Commit | None, files: dict[str, Blob], title: str) -> Commit:
        """Makes a commit; moves no branch."""
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        tree = sorted((path, blob.oid) for path, blob in files.items())
        content = json.dumps([parent.sha if parent else None, title, date, tree])
        sha = hashlib.sha1(content.encode()).hexdigest()
        commit = Commit(sha, parent.sha if parent else None, title, dict(files), date)
        self.commits[sha] = commit
        return commit

    @property
    def main(self) -> Commit:
        """The commit that main stands at."""
        return self.commits[self.branches["main"]]


class Hub:
    """The server and what it holds; a context manager.

    Example:
        >>> with Hub(bound_socket) as hub:
        ...     hub.faults.append(Fault("status", path="/commit/", status=503))
        ...     # … use a client …
        ...     assert hub.models["user/name"].main.files["config.json"]
    """

    WRITE, READ, FINE_GRAINED = "hf_writing", "hf_reading", "hf_fine"

    def __init__(self, listening: socket.socket) -> None:
        self.endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self._socket = listening
        self.clear()
        config = uvicorn.Config(
            _FaultyApp(self, _app(self)),
            log_level="critical",
            lifespan="off",
            timeout_keep_alive=30,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, daemon=True
        )

    def clear(self) -> None:
        """Forgets everything, and removes all faults."""
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.storage: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.paid_plan = True
        self.tokens = {
            self.WRITE: ("user", "write"),
            self.READ: ("user", "read"),
            self.FINE_GRAINED: ("user", "fineGrained"),
            "hf_other": ("other", "write"),
        }

    def __enter__(self) -> "Hub":
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    @property
    def models(self) -> dict[str, Repository]:
        """The model repositories by name."""
        return {name: repo for (kind, name), repo in self.repositories.items() if kind == "models"}

    @property
    def spaces(self) -> dict[str, Repository]:
        """The Spaces by name."""
        return {name: repo for (kind, name), repo in self.repositories.items() if kind == "spaces"}

    def check_plan(self, sdk: str | None, hardware: str) -> None:
        """Refuses a Space that needs a paid plan, as the Hub has done since July 2026."""
        if not self.paid_plan and sdk != "static" and hardware != "zero-a10g":
            raise _Refusal(
                402,
                "Static Spaces are free for everyone, but hosting Gradio and Docker Spaces on free "
                f"{hardware} requires a PRO subscription",
            )

    def create(self, kind: str, name: str, **options: Any) -> Repository:
        """Makes a repository with the first commit that the Hub makes itself."""
        repository = Repository(kind, name, **options)
        first = repository.add(None, {".gitattributes": Blob(b"*.h5 filter=lfs\n")}, "initial")
        repository.branches["main"] = first.sha
        self.repositories[kind, name] = repository
        return repository

    def put(
        self, repository: Repository, files: dict[str, bytes], branch: str = "main", **changes: Any
    ) -> Commit:
        """Commits files as somebody else would: no client is involved."""
        parent = repository.commits[repository.branches[branch]]
        tree = {} if changes.get("only") else dict(parent.files)
        for path, content in files.items():
            tree[path] = self.blob(path, content)
        commit = repository.add(parent, tree, changes.get("title", "changed"))
        repository.branches[branch] = commit.sha
        return commit

    def blob(self, path: str, content: bytes) -> Blob:
        """Returns a file, put into LFS storage if it belongs there."""
        if upload_mode(content[:512], len(content)) == "regular":
            return Blob(content)
        oid = hashlib.sha256(content).hexdigest()
        self.storage[oid] = content
        return Blob(content, oid)

    def fail(self, action: str, path: str = "", **options: Any) -> Fault:
        """Orders a fault."""
        fault = Fault(action, path, **options)
        self.faults.append(fault)
        return fault

    def asked(self, pattern: str) -> int:
        """Counts the requests so far whose `METHOD /path` the pattern is found in."""
        return sum(bool(re.search(pattern, f"{method} {path}")) for method, path in self.requests)


def files_of(folder: Path) -> dict[str, bytes]:
    """Returns the files of a folder by their paths in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def upload_mode(sample: bytes, size: int) -> str:
    """Returns "lfs" for what the Hub would not keep in Git: binary files, and large ones."""
    return "lfs" if b"\0" in sample or size > LFS_BYTES else "regular"


class _Refusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer other than what was asked for."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code

    def response(self) -> Response:
        """The answer as the Hub words it."""
        headers = {"X-Error-Message": self.message}
        if self.code:
            headers["X-Error-Code"] = self.code
        return JSONResponse({"error": self.message}, self.status, headers)


class _Access:
    """Who may do what."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def who(self, request: Request) -> tuple[str, str] | None:
        """Returns the name and the role that a request's token stands for."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not scheme:
            return None
        if token not in self.hub.tokens:
            raise _Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.tokens[token]

    def readable(self, request: Request, kind: str, name: str) -> Repository:
        """Returns a repository if the request may read it."""
        who = self.who(request)
        repository = self.hub.repositories.get((kind, name))
        owner = name.partition("/")[0]
        if repository is None or (repository.private and (who or ("",))[0] != owner):
            raise _Refusal(404 if who else 401, "Repository not found", "RepoNotFound")
        return repository

    def writable(self, request: Request, name: str) -> None:
        """Refuses a request that may not write to a name."""
        who = self.who(request)
        if who is None:
            raise _Refusal(401, "Unauthorized")
        if who[1] == "read" or who[0] != name.partition("/")[0]:
            raise _Refusal(403, f"You don't have the rights to write to {name}")


def _found(repository: Repository, revision: str) -> Commit:
    commit = repository.resolve(revision)
    if commit is None:
        raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def _split_revision(request: Request, after: str) -> tuple[str, str]:
    """Returns the revision and the path that follow a part of the address.

    A slash inside of a revision arrives as %2F, which only the raw address still shows.
    """
    raw = request.scope["raw_path"].decode()
    revision, _, path = raw.split(f"/{after}/", 1)[1].partition("/")
    return unquote(revision), unquote(path)


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": path,
        "oid": blob.oid,
        "size": len(blob.content),
    }
    if blob.lfs:
        entry["lfs"] = {"oid": blob.lfs, "size": len(blob.content), "pointerSize": 130}
    return entry


def _folders(paths: list[str]) -> set[str]:
    return {
        "/".join(path.split("/")[:depth])
        for path in paths
        for depth in range(1, path.count("/") + 1)
    }


def _app(hub: Hub) -> FastAPI:
    """Returns the Hub's HTTP API."""
    app, access = FastAPI(openapi_url=None), _Access(hub)

    @app.exception_handler(_Refusal)
    async def refuse(_: Request, refusal: _Refusal) -> Response:
        return refusal.response()

    _add_accounts(app, hub, access)
    _add_reading(app, hub, access)
    _add_files(app, hub, access)
    _add_writing(app, hub, access)
    _add_large_files(app, hub, access)
    return app


def _add_accounts(app: FastAPI, hub: Hub, access: _Access) -> None:
    @app.get("/api/whoami-v2")
    async def whoami(request: Request) -> Any:
        who = access.who(request)
        if who is None:
            raise _Refusal(401, "Invalid username or password.")
        name, role = who
        token = {"displayName": "test", "role": role, "createdAt": "2026-01-01T00:00:00.000Z"}
        auth = {"type": "access_token", "accessToken": token}
        return {"type": "user", "name": name, "orgs": [], "auth": auth}

    @app.post("/api/validate-yaml")
    async def validate(request: Request) -> Any:
        content = (await request.json())["content"]
        match = re.match(r"---\r?\n(.*?)\r?\n---", content, re.DOTALL)
        try:
            data = yaml.safe_load(match[1]) if match else {}
        except yaml.YAMLError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        if not isinstance(data, dict) or not isinstance(data.get("license", ""), str):
            return JSONResponse({"errors": [{"message": '"license" must be a string'}]}, 400)
        return {"errors": [], "warnings": []}

    @app.post("/api/repos/create")
    async def create(request: Request) -> Any:
        body = await request.json()
        kind = body.get("type", "model") + "s"
        who = access.who(request)
        name = f"{body.get('organization') or (who or ('',))[0]}/{body['name']}"
        url = f"{hub.endpoint}/{PREFIXES[kind]}{name}"
        access.writable(request, name)
        if (kind, name) in hub.repositories:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        private = body.get("visibility") == "private" or bool(body.get("private"))
        space = {"sdk": body.get("sdk"), "hardware": body.get("hardware") or "cpu-basic"}
        if kind == "spaces":
            hub.check_plan(**space)
        made = hub.create(kind, name, private=private, **space)
        for variable in body.get("variables") or []:
            made.variables[variable["key"]] = variable
        return {"url": url, "name": name, "id": name}

    @app.post("/api/spaces/{user}/{repo}/variables")
    async def add_variable(request: Request, user: str, repo: str) -> Any:
        name = f"{user}/{repo}"
        access.writable(request, name)
        repository = access.readable(request, "spaces", name)
        body = await request.json()
        repository.variables[body["key"]] = body
        return repository.variables

    @app.post("/api/spaces/{user}/{repo}/hardware")
    async def request_hardware(request: Request, user: str, repo: str) -> Any:
        access.writable(request, f"{user}/{repo}")
        repository = access.readable(request, "spaces", f"{user}/{repo}")
        hardware = (await request.json())["flavor"]
        hub.check_plan(repository.sdk, hardware)
        repository.hardware = hardware
        return _runtime(repository)

    @app.get("/api/spaces/{user}/{repo}/variables")
    async def get_variables(request: Request, user: str, repo: str) -> Any:
        return access.readable(request, "spaces", f"{user}/{repo}").variables


def _runtime(repository: Repository) -> dict[str, Any]:
    hardware = {"current": repository.hardware, "requested": repository.hardware}
    return {"stage": "RUNNING", "hardware": hardware}


def _add_reading(app: FastAPI, hub: Hub, access: _Access) -> None:
    def info(repository: Repository, commit: Commit) -> dict[str, Any]:
        return {
            "_id": "0" * 24,
            "id": repository.name,
            "author": repository.name.partition("/")[0],
            "sha": commit.sha,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in commit.files],
            "lastModified": commit.date,
            "createdAt": commit.date,
            **({"sdk": repository.sdk, "runtime": _runtime(repository)} if repository.sdk else {}),
        }

    @app.get("/api/{kind}/{user}/{repo}")
    async def repo_info(request: Request, kind: str, user: str, repo: str) -> Any:
        repository = access.readable(request, kind, f"{user}/{repo}")
        return info(repository, repository.main)

    @app.get("/api/{kind}/{user}/{repo}/revision/{revision:path}")
    async def revision_info(
        request: Request, kind: str, user: str, repo: str, revision: str
    ) -> Any:
        repository = access.readable(request, kind, f"{user}/{repo}")
        return info(repository, _found(repository, revision))

    @app.get("/api/{kind}/{user}/{repo}/tree/{rest:path}")
    async def tree(request: Request, kind: str, user: str, repo: str, rest: str) -> Any:
        repository = access.readable(request, kind, f"{user}/{repo}")
        revision, folder = _split_revision(request, "tree")
        commit = _found(repository, revision)
        start = f"{folder.rstrip('/')}/" if folder else ""
        paths = [path for path in commit.files if path.startswith(start)]
        if folder and not paths:
            raise _Refusal(404, f"{folder} does not exist", "EntryNotFound")
        inner = [path for path in paths if "/" not in path[len(start) :]]
        recursive = request.query_params.get("recursive", "").lower() in ("1", "true")
        files = [_entry(path, commit.files[path]) for path in (paths if recursive else inner)]
        folders = sorted(
            name
            for name in _folders(paths)
            if name.startswith(start) and (recursive or "/" not in name[len(start) :])
        )
        return [{"type": "directory", "path": name, "oid": "0" * 40} for name in folders] + files

    @app.post("/api/{kind}/{user}/{repo}/paths-info/{revision:path}")
    async def paths_info(request: Request, kind: str, user: str, repo: str, revision: str) -> Any:
        repository = access.readable(request, kind, f"{user}/{repo}")
        commit = _found(repository, revision)
        if "json" in request.headers.get("content-type", ""):
            wanted = (await request.json())["paths"]
        else:
            wanted = (await request.form()).getlist("paths")
        folders = _folders(list(commit.files))
        return [_entry(path, commit.files[path]) for path in wanted if path in commit.files] + [
            {"type": "directory", "path": path, "oid": "0" * 40}
            for path in wanted
            if path.strip("/") in folders
        ]

    @app.get("/api/{kind}/{user}/{repo}/refs")
    async def refs(request: Request, kind: str, user: str, repo: str) -> Any:
        repository = access.readable(request, kind, f"{user}/{repo}")

        def listed(names: dict[str, str], prefix: str) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"{prefix}{name}", "targetCommit": sha}
                for name, sha in names.items()
            ]

        found = {
            "branches": listed(repository.branches, "refs/heads/"),
            "tags": listed(repository.tags, "refs/tags/"),
            "converts": [],
        }
        if request.query_params.get("include_prs"):
            found["pullRequests"] = listed(repository.pull_requests, "")
        return found


def _add_files(app: FastAPI, hub: Hub, access: _Access) -> None:
    async def resolve(request: Request, kind: str, name: str) -> Response:
        repository = access.readable(request, kind, name)
        revision, path = _split_revision(request, "resolve")
        commit = _found(repository, revision)
        headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
        blob = commit.files.get(path)
        if blob is None:
            missing = _Refusal(404, "Entry not found", "EntryNotFound").response()
            missing.headers["X-Repo-Commit"] = commit.sha
            return missing
        headers["ETag"] = f'"{blob.oid}"'
        if blob.lfs:
            headers["X-Linked-Etag"] = f'"{blob.lfs}"'
            headers["X-Linked-Size"] = str(len(blob.content))
        return _content(request, blob.content, headers)

    @app.api_route("/{kind}/{user}/{repo}/resolve/{rest:path}", methods=["GET", "HEAD"])
    async def of_kind(request: Request, kind: str, user: str, repo: str, rest: str) -> Response:
        return await resolve(request, kind, f"{user}/{repo}")

    @app.api_route("/{user}/{repo}/resolve/{rest:path}", methods=["GET", "HEAD"])
    async def of_model(request: Request, user: str, repo: str, rest: str) -> Response:
        return await resolve(request, "models", f"{user}/{repo}")


def _content(request: Request, content: bytes, headers: dict[str, str]) -> Response:
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    status, total = 200, len(content)
    if wanted:
        start = int(wanted[1])
        end = min(int(wanted[2] or total - 1), total - 1)
        if start >= total:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{total}"})
        headers = {**headers, "Content-Range": f"bytes {start}-{end}/{total}"}
        status, content = 206, content[start : end + 1]
    headers = {**headers, "Content-Length": str(len(content))}
    body = b"" if request.method == "HEAD" else content
    return Response(body, status, headers, media_type="application/octet-stream")


def _add_writing(app: FastAPI, hub: Hub, access: _Access) -> None:
    @app.post("/api/{kind}/{user}/{repo}/preupload/{revision:path}")
    async def preupload(request: Request, kind: str, user: str, repo: str, revision: str) -> Any:
        repository = access.readable(request, kind, f"{user}/{repo}")
        if access.who(request) is None:
            raise _Refusal(401, "Unauthorized")
        commit = _found(repository, revision)
        files = []
        for item in (await request.json())["files"]:
            mode = upload_mode(base64.b64decode(item["sample"]), item["size"])
            answer = {"path": item["path"], "uploadMode": mode, "shouldIgnore": False}
            there = commit.files.get(item["path"])
            files.append({**answer, "oid": (there.lfs or there.oid) if there else None})
        return {"files": files}

    @app.post("/api/{kind}/{user}/{repo}/commit/{revision:path}")
    async def commit(request: Request, kind: str, user: str, repo: str, revision: str) -> Any:
        name = f"{user}/{repo}"
        repository = access.readable(request, kind, name)
        pull_request = request.query_params.get("create_pr") == "1"
        if not pull_request or access.who(request) is None:
            access.writable(request, name)
        if not pull_request and revision not in repository.branches:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        parent = _found(repository, revision)
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line]
        header = next(line["value"] for line in lines if line["key"] == "header")
        wanted = header.get("parentCommit")
        if wanted and pull_request:
            parent = _found(repository, wanted)
        elif wanted and not parent.sha.startswith(wanted):
            raise _Refusal(412, "A commit has happened since. Please refresh and try again.")
        made = repository.add(parent, _changed(hub, parent, lines), header["summary"])
        answer = {
            "success": True,
            "commitOid": made.sha,
            "commitUrl": f"{hub.endpoint}/{PREFIXES[kind]}{name}/commit/{made.sha}",
        }
        if not pull_request:
            repository.branches[revision] = made.sha
            return answer
        number = len(repository.pull_requests) + 1
        repository.pull_requests[f"refs/pr/{number}"] = made.sha
        page = f"{hub.endpoint}/{PREFIXES[kind]}{name}/discussions/{number}"
        return {**answer, "pullRequestUrl": page}

    @app.post("/api/{kind}/{user}/{repo}/branch/{branch:path}")
    async def branch(request: Request, kind: str, user: str, repo: str, branch: str) -> Any:
        access.writable(request, f"{user}/{repo}")
        repository = access.readable(request, kind, f"{user}/{repo}")
        if branch in repository.branches:
            raise _Refusal(409, "Reference already exists")
        body = await request.json()
        start = _found(repository, body.get("startingPoint") or "main")
        repository.branches[branch] = start.sha
        return {}

    @app.post("/api/{kind}/{user}/{repo}/tag/{revision:path}")
    async def tag(request: Request, kind: str, user: str, repo: str, revision: str) -> Any:
        access.writable(request, f"{user}/{repo}")
        repository = access.readable(request, kind, f"{user}/{repo}")
        name = (await request.json())["tag"]
        if name in repository.tags:
            raise _Refusal(409, "Tag reference exists already")
        repository.tags[name] = _found(repository, revision).sha
        return {}


def _changed(hub: Hub, parent: Commit, lines: list[dict[str, Any]]) -> dict[str, Blob]:
    """Returns the files of a commit after the operations that were sent."""
    files = dict(parent.files)
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = Blob(base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            if value["oid"] not in hub.storage:
                raise _Refusal(400, f"{value['path']} was not uploaded to LFS")
            files[value["path"]] = Blob(hub.storage[value["oid"]], value["oid"])
        elif line["key"] == "deletedFile" and files.pop(value["path"], None) is None:
            raise _Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
    return files


def _add_large_files(app: FastAPI, hub: Hub, access: _Access) -> None:
    async def batch(request: Request, kind: str, name: str) -> Any:
        access.readable(request, kind, name)
        if access.who(request) is None:
            raise _Refusal(401, "Unauthorized")
        objects = []
        for item in (await request.json())["objects"]:
            oid, size = item["oid"], item["size"]
            answer: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in hub.storage:
                answer["actions"] = {
                    "upload": {"href": f"{hub.endpoint}/storage/{oid}", "header": {}},
                    "verify": {"href": f"{hub.endpoint}/verify", "header": {}},
                }
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    @app.post("/{user}/{repo}.git/info/lfs/objects/batch")
    async def of_model(request: Request, user: str, repo: str) -> Any:
        return await batch(request, "models", f"{user}/{repo}")

    @app.post("/{kind}/{user}/{repo}.git/info/lfs/objects/batch")
    async def of_kind(request: Request, kind: str, user: str, repo: str) -> Any:
        return await batch(request, kind, f"{user}/{repo}")

    @app.put("/storage/{oid}")
    async def store(request: Request, oid: str) -> Response:
        content = await request.body()
        if hashlib.sha256(content).hexdigest() != oid:
            raise _Refusal(400, "The checksum does not match")
        hub.storage[oid] = content
        return Response(status_code=200)

    @app.post("/verify")
    async def verify(request: Request) -> Any:
        body = await request.json()
        if len(hub.storage.get(body["oid"], b"")) != body["size"]:
            raise _Refusal(404, "Object does not exist")
        return {"message": "ok"}


Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _FaultyApp:
    """The application behind its faults; sees the connection itself."""

    def __init__(self, hub: Hub, app: FastAPI) -> None:
        self.hub, self.app = hub, app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        self.hub.requests.append((method, path))
        fault = next((item for item in self.hub.faults if item.concerns(method, path)), None)
        if fault is None:
            await self.app(scope, receive, send)
            return
        if fault.then:
            fault.then()
        # uvicorn's `send` belongs to the request's cycle, which knows the connection.
        drop = send.__self__.transport.abort  # type: ignore[attr-defined]
        act = getattr(self, "_" + fault.action.replace(" ", "_"))
        await act(fault, scope, receive, send, drop)

    async def _status(
        self, fault: Fault, scope: Message, receive: Receive, send: Send, drop: Any
    ) -> None:
        await JSONResponse({"error": "ordered"}, fault.status, fault.headers)(scope, receive, send)

    async def _answer(
        self, fault: Fault, scope: Message, receive: Receive, send: Send, drop: Any
    ) -> None:
        await self.app(scope, receive, send)

    async def _silence(
        self, fault: Fault, scope: Message, receive: Receive, send: Send, drop: Any
    ) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        drop()

    async def _lose_answer(
        self, fault: Fault, scope: Message, receive: Receive, send: Send, drop: Any
    ) -> None:
        async def swallow(message: Message) -> None:
            drop()

        await self.app(scope, receive, swallow)


def _bound_socket() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


# The clients read `HF_ENDPOINT` once, when they are imported: the port must be known before. Until
# a test asks for the Hub nothing listens there, so that no test can reach the real one.
_SOCKET = _bound_socket()
ENDPOINT = f"http://127.0.0.1:{_SOCKET.getsockname()[1]}"


@pytest.fixture(scope="session")
def running_hub() -> Iterator[Hub]:
    """The server that all tests share."""
    with Hub(_SOCKET) as hub:
        yield hub


@pytest.fixture
def hub(running_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub, and a token in `HF_TOKEN` that may write to `user/…`."""
    running_hub.clear()
    monkeypatch.setenv("HF_TOKEN", Hub.WRITE)
    yield running_hub
    running_hub.clear()


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other without the waits that a real fault needs."""
    from classifier import hub_client

    monkeypatch.setattr(hub_client, "BACKOFF", (0.01,) * 4)


@pytest.fixture
def repo_id(request: pytest.FixtureRequest) -> str:
    """A name of its own for each test: the clients' cache outlives the tests."""
    digest = hashlib.sha1(request.node.nodeid.encode()).hexdigest()[:10]
    return f"user/model-{digest}"
