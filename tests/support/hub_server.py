"""A Hub on loopback: enough of its HTTP interface for the real client, in memory, with faults on demand.

It keeps what the real one keeps: repositories with commits, branches and tags, large files by their hash, private and
gated access by token. What it was asked is in `requests`.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

OWNER_TOKEN, READER_TOKEN = "hf_OwnerOwnerOwnerOwnerOwnerOwner01", "hf_ReaderReaderReaderReaderReader02"
LARGE = (".safetensors", ".bin", ".pdf", ".png")


@dataclass(frozen=True)
class Blob:
    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        """The git object id: of the file, or of the pointer that git holds for a large one."""
        held = self.data
        if self.large:
            held = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(held)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()

    def described(self, path: str) -> dict:
        value = {"type": "file", "path": path, "size": len(self.data), "oid": self.oid}
        if self.large:
            value["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": 134}
            value["xetHash"] = self.sha256
        return value


@dataclass
class Repository:
    kind: str
    name: str
    private: bool = False
    gated: bool | str = False
    readers: frozenset[str] = frozenset()
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    created_with: dict = field(default_factory=dict)
    runtime_checks: int = 0

    @property
    def head(self) -> str:
        return self.refs["main"]

    @property
    def files(self) -> dict[str, bytes]:
        return {path: blob.data for path, blob in self.commits[self.head].items()}

    def commit(self, tree: dict[str, Blob], ref: str = "main") -> str:
        sha = hashlib.sha1(f"{self.name}{len(self.commits)}{sorted(tree)}".encode()).hexdigest()
        self.commits[sha] = tree
        self.refs[ref] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        sha = self.refs.get(revision) or self.tags.get(revision)
        return sha or (revision if revision in self.commits else None)


@dataclass
class Fault:
    """What goes wrong with the requests whose "METHOD /path" the pattern finds: an answer of `status`, a connection
    `cut` before or, with a body, in the middle of the request, or `seconds` of silence. The first `skip` pass."""

    pattern: str
    status: int | None = None
    cut: bool = False
    seconds: float = 0
    times: int = 1
    skip: int = 0
    after: bool = False
    message: str = "fault on demand"
    headers: dict[str, str] = field(default_factory=dict)


class Cut(Response):
    """Begins an answer and breaks off, which makes the server close the connection."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


class Hub:
    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.users = {OWNER_TOKEN: "me", READER_TOKEN: "reader"}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.stages: list[str] = ["BUILDING", "APP_STARTING", "RUNNING"]
        self.before_commit = None
        self.url = ""

    def add(self, name: str, files: dict[str, bytes], kind: str = "model", **settings) -> Repository:
        repository = Repository(kind, name, **settings)
        self.repositories[kind, name] = repository
        tree = {path: Blob(data, path.endswith(LARGE)) for path, data in files.items()}
        repository.commit({".gitattributes": Blob(b"*.safetensors filter=lfs\n", False), **tree})
        return repository

    def model(self, name: str) -> Repository:
        return self.repositories["model", name]

    @contextmanager
    def running(self):
        config = uvicorn.Config(self.app(), host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join()

    def app(self) -> Starlette:
        k, n = "{kind:str}s", "{owner:str}/{name:str}"
        return Starlette(
            routes=[
                self.route("/api/repos/create", self.create, "POST"),
                self.route("/api/validate-yaml", self.validate, "POST"),
                self.route("/api/whoami-v2", self.whoami),
                self.route(f"/api/{k}/{n}/preupload/{{revision:path}}", self.preupload, "POST"),
                self.route(f"/api/{k}/{n}/commit/{{revision:path}}", self.commit, "POST"),
                self.route(f"/api/{k}/{n}/lfs-files/duplicate", self.duplicate, "POST"),
                self.route(f"/api/{k}/{n}/paths-info/{{revision:path}}", self.paths_info, "POST"),
                self.route(f"/api/{k}/{n}/tree/{{revision:path}}", self.tree),
                self.route(f"/api/{k}/{n}/tag/{{revision:path}}", self.tag, "POST"),
                self.route(f"/api/{k}/{n}/branch/{{branch:path}}", self.branch, "POST"),
                self.route(f"/api/{k}/{n}/refs", self.list_refs),
                self.route(f"/api/{k}/{n}/variables", self.set_variable, "POST"),
                self.route(f"/api/{k}/{n}/variables", self.get_variables),
                self.route(f"/api/{k}/{n}/runtime", self.runtime),
                self.route(f"/api/{k}/{n}/revision/{{revision:path}}", self.info),
                self.route(f"/api/{k}/{n}", self.info),
                self.route("/lfs/{kind:str}/{owner:str}/{name:str}/{oid:str}", self.put_large, "PUT"),
                self.route("/{owner:str}/{name:str}.git/info/lfs/objects/batch", self.batch, "POST"),
                self.route("/spaces/{owner:str}/{name:str}.git/info/lfs/objects/batch", self.batch, "POST"),
                self.route("/{owner:str}/{name:str}/resolve/{revision:str}/{path:path}", self.resolve),
                self.route("/spaces/{owner:str}/{name:str}/resolve/{revision:str}/{path:path}", self.resolve),
            ]
        )

    def route(self, path: str, handler, method: str = "GET") -> Route:
        async def guarded(request: Request) -> Response:
            asked = f"{request.method} {request.url.path}"
            self.requests.append(asked)
            fault = self.fault(asked)
            if fault and not fault.after:
                return await self.break_down(fault, request)
            try:
                response = await handler(request)
            except Refused as refusal:
                return refusal.response
            return await self.break_down(fault, request) if fault else response

        return Route(path, guarded, methods=[method])

    def fault(self, asked: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.pattern, asked):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    async def break_down(self, fault: Fault, request: Request) -> Response:
        await anyio.sleep(fault.seconds)
        if fault.cut:
            async for _ in request.stream():
                break
            return Cut()
        return JSONResponse({"error": fault.message}, fault.status or 200, fault.headers)

    # Access

    def user(self, request: Request) -> str | None:
        return self.users.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    def find(self, request: Request, write: bool = False, content: bool = False) -> Repository:
        kind = request.path_params.get("kind") or ("space" if request.url.path.startswith("/spaces/") else "model")
        name = f"{request.path_params['owner']}/{request.path_params['name']}"
        user, repository = self.user(request), self.repositories.get((kind, name))
        if repository is None or (repository.private and not self.may_write(user, name)):
            raise Refused(404 if user else 401, "RepoNotFound", "Repository not found")
        if content and repository.gated and user not in repository.readers:
            raise Refused(403 if user else 401, "GatedRepo", "Access to this repository is restricted.")
        if write and not self.may_write(user, name):
            raise Refused(403, None, "You don't have the rights to write to this repository")
        return repository

    def may_write(self, user: str | None, name: str) -> bool:
        return user is not None and name.startswith(f"{user}/")

    def snapshot(self, repository: Repository, revision: str) -> tuple[str, dict[str, Blob]]:
        sha = repository.resolve(unquote(revision))
        if sha is None:
            raise Refused(404, "RevisionNotFound", "Invalid rev id")
        return sha, repository.commits[sha]

    # Handlers

    async def create(self, request: Request) -> Response:
        asked, user = await request.json(), self.user(request)
        if user is None:
            raise Refused(401, None, "Invalid credentials in Authorization header")
        kind, owner = asked.get("type") or "model", asked.get("organization") or user
        name = f"{owner}/{asked['name']}"
        url = f"{self.url}/{'spaces/' if kind == 'space' else ''}{name}"
        if not self.may_write(user, name):
            raise Refused(403, None, f"You don't have the rights to create a model under the namespace {owner!r}")
        if (kind, name) in self.repositories:
            return JSONResponse({"error": "You already created this model repo", "url": url}, 409)
        repository = self.add(
            name, {}, kind, private=asked.get("visibility") == "private" or bool(asked.get("private"))
        )
        repository.created_with = asked
        return JSONResponse({"url": url, "name": name})

    async def validate(self, request: Request) -> Response:
        return JSONResponse({"errors": [], "warnings": []})

    async def whoami(self, request: Request) -> Response:
        if self.user(request) is None:
            raise Refused(401, None, "Invalid user token.")
        return JSONResponse({"type": "user", "name": self.user(request), "orgs": []})

    async def preupload(self, request: Request) -> Response:
        repository = self.find(request, write=True)
        _, tree = self.snapshot(repository, request.path_params["revision"])
        files = []
        for file in (await request.json())["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(LARGE) or file["size"] > 10_000_000 else "regular"
            known = tree.get(path)
            oid = known and (known.sha256 if known.large else known.oid)
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": files})

    async def batch(self, request: Request) -> Response:
        repository = self.find(request, write=True)
        objects = []
        for entry in (await request.json())["objects"]:
            answer = {"oid": entry["oid"], "size": entry["size"]}
            if entry["oid"] not in repository.large:
                href = f"{self.url}/lfs/{repository.kind}/{repository.name}/{entry['oid']}"
                answer["actions"] = {"upload": {"href": href}}
            objects.append(answer)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def put_large(self, request: Request) -> Response:
        name = f"{request.path_params['owner']}/{request.path_params['name']}"
        data, oid = await request.body(), request.path_params["oid"]
        if hashlib.sha256(data).hexdigest() != oid:
            raise Refused(400, None, "hash mismatch")
        self.repositories[request.path_params["kind"], name].large[oid] = data
        return Response()

    async def duplicate(self, request: Request) -> Response:
        source, asked = self.find(request, content=True), await request.json()
        target = asked["target"]
        kind, name = target.get("type", "model"), target.get("repoId") or target.get("name")
        held = {blob.sha256: blob.data for tree in source.commits.values() for blob in tree.values() if blob.large}
        for file in asked["files"]:
            self.repositories[kind, name].large[file["sha256"]] = held[file["sha256"]]
        return JSONResponse({"success": [], "failed": []})

    async def commit(self, request: Request) -> Response:
        repository = self.find(request, write=True)
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        revision = unquote(request.path_params["revision"])
        pull = request.query_params.get("create_pr") == "1"
        if self.before_commit:
            self.before_commit(repository)
        head = repository.refs.get(revision)
        if head is None:
            raise Refused(404, "RevisionNotFound", "Invalid rev id")
        parent = lines[0]["value"].get("parentCommit")
        if parent and not pull and parent != head:
            raise Refused(412, None, "A commit has happened since. Please refresh and try again.")
        tree = apply(dict(repository.commits[parent or head]), lines[1:], repository.large)
        number = 1 + sum(ref.startswith("refs/pr/") for ref in repository.refs)
        sha = repository.commit(tree, f"refs/pr/{number}" if pull else revision)
        answer = {"commitUrl": f"{self.url}/{repository.name}/commit/{sha}", "commitOid": sha}
        if pull:
            answer["pullRequestUrl"] = f"{self.url}/{repository.name}/discussions/{number}"
        return JSONResponse(answer)

    async def paths_info(self, request: Request) -> Response:
        _, tree = self.snapshot(self.find(request), request.path_params["revision"])
        async with request.form() as form:
            paths = form.getlist("paths")
        return JSONResponse([tree[path].described(path) for path in paths if path in tree])

    async def tree(self, request: Request) -> Response:
        repository = self.find(request)
        revision, _, folder = request.path_params["revision"].partition("/")
        if revision == "refs":  # refs/pr/1, a revision of its own
            revision, folder = request.path_params["revision"], ""
        _, tree = self.snapshot(repository, revision)
        found = [blob.described(path) for path, blob in sorted(tree.items()) if path.startswith(folder)]
        if folder and not found:
            raise Refused(404, "EntryNotFound", "Entry not found")
        return JSONResponse(found)

    async def tag(self, request: Request) -> Response:
        repository = self.find(request, write=True)
        sha, _ = self.snapshot(repository, request.path_params["revision"])
        name = (await request.json())["tag"]
        if name in repository.tags:
            raise Refused(409, None, "Tag reference exists already")
        repository.tags[name] = sha
        return Response()

    async def branch(self, request: Request) -> Response:
        repository, name = self.find(request, write=True), unquote(request.path_params["branch"])
        if name in repository.refs:
            raise Refused(409, None, "Reference exists already")
        asked = json.loads(await request.body() or b"{}")
        repository.refs[name] = self.snapshot(repository, asked.get("startingPoint") or "main")[0]
        return Response()

    async def list_refs(self, request: Request) -> Response:
        repository = self.find(request)

        def described(refs: dict[str, str], place: str) -> list[dict]:
            return [{"name": n, "ref": f"refs/{place}/{n}", "targetCommit": sha} for n, sha in refs.items()]

        return JSONResponse(
            {
                "branches": described(repository.refs, "heads"),
                "tags": described(repository.tags, "tags"),
                "converts": [],
            }
        )

    async def info(self, request: Request) -> Response:
        repository = self.find(request)
        sha, tree = self.snapshot(repository, request.path_params.get("revision", "main"))
        return JSONResponse(
            {
                "id": repository.name,
                "sha": sha,
                "private": repository.private,
                "gated": repository.gated,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": [{"rfilename": path} for path in sorted(tree)],
                "lastModified": "2026-11-01T00:00:00.000Z",
                "createdAt": "2026-11-01T00:00:00.000Z",
            }
        )

    async def resolve(self, request: Request) -> Response:
        repository = self.find(request, content=True)
        sha, tree = self.snapshot(repository, request.path_params["revision"])
        blob = tree.get(request.path_params["path"])
        if blob is None:
            raise Refused(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"}
        if blob.large:
            headers |= {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": str(len(blob.data))}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted and request.method == "GET":
            start, end = int(wanted[1]), int(wanted[2] or len(blob.data) - 1)
            part = blob.data[start : end + 1]
            headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(blob.data)}"
            return Response(part, 206, headers)
        return Response(blob.data, headers=headers)

    async def set_variable(self, request: Request) -> Response:
        repository, asked = self.find(request, write=True), await request.json()
        repository.variables[asked["key"]] = asked["value"]
        return await self.get_variables(request)

    async def get_variables(self, request: Request) -> Response:
        held = self.find(request).variables
        return JSONResponse({key: {"key": key, "value": value} for key, value in held.items()})

    async def runtime(self, request: Request) -> Response:
        repository = self.find(request)
        stage = self.stages[min(repository.runtime_checks, len(self.stages) - 1)]
        repository.runtime_checks += 1
        answer = {"stage": stage, "hardware": {"current": "cpu-basic", "requested": "cpu-basic"}}
        if stage.endswith("ERROR"):
            answer["errorMessage"] = "the build broke"
        return JSONResponse(answer)


class Refused(Exception):
    def __init__(self, status: int, code: str | None, message: str, headers: dict[str, str] | None = None):
        codes = {"X-Error-Code": code} if code else {}
        self.response = JSONResponse(
            {"error": message}, status, {**codes, "X-Error-Message": message, **(headers or {})}
        )


def apply(tree: dict[str, Blob], operations: Iterable[dict], large: dict[str, bytes]) -> dict[str, Blob]:
    """The tree after the operations of a commit; all of them or, when one refuses, none."""
    for operation in operations:
        value = operation["value"]
        if operation["key"] == "file":
            tree[value["path"]] = Blob(base64.b64decode(value["content"]), False)
        elif operation["key"] == "lfsFile":
            if value["oid"] not in large:
                raise Refused(400, None, f"the content of {value['path']} was never uploaded")
            tree[value["path"]] = Blob(large[value["oid"]], True)
        elif operation["key"] == "deletedFile" and tree.pop(value["path"], None) is None:
            raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
    return tree
