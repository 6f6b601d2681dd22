"""A plan: a frozen list of jobs. What is planned is composed and checked as a whole, before anything runs, and no later edit changes it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from runner.config import compose, registry
from runner.config.bind import Config, bind
from runner.config.expand import expand, own
from runner.config.places import CONF, RECIPES
from runner.core.errors import UserError
from runner.execution.identity import code_fingerprint, run_id
from runner.execution.store import Store, folder, folder_of


@dataclass(frozen=True, eq=False)
class Job:
    """A planned run: its id, what sets it apart from the others, its whole config as plain data, and the fingerprint of its code."""

    id: str
    own: tuple[str, ...]
    plain: dict
    code: str

    @cached_property
    def config(self) -> Config:
        """Raises UserError where today's components do not take a plan of before."""
        return bind(self.plain)

    @property
    def name(self) -> str:
        return " ".join(self.own) or self.id

    def left(self, state: str) -> bool:
        """Whether it is to be run where its record is in a state; with fresh=true what is done is too."""
        return state != "done" or self.plain["fresh"]


@dataclass(frozen=True)
class Plan:
    """Jobs of one store, each run once however often it is named."""

    jobs: tuple[Job, ...]
    store: Store
    file: Path | None = field(default=None)
    asked: tuple[str, ...] = field(default=())  # the run ids in the order they were asked for; one may stand there twice

    def states(self) -> dict[str, str]:
        """Run id -> its state now; see `Store.state`."""
        return {job.id: self.store.state(job.id, job.code) for job in self.jobs}


def make(overrides: list[str], config_name: str = "config", first: Callable[[Config], None] = lambda config: None) -> Plan:
    """Compose, check and expand a command line; `first` is told the config of the first job as soon as that is known. Raises UserError."""
    with compose.composer(config_name) as composed:
        jobs = expand(overrides)
        first(bind(composed(jobs[0])))
        return of([(job, composed(job)) for job in jobs])


def of(composed: Iterable[tuple[list[str], dict]]) -> Plan:
    """The plan of composed configs, each with its overrides. Raises UserError for what does not bind."""
    composed = list(composed)
    jobs: dict[str, Job] = {}
    asked = []
    fingerprints: dict[tuple, str] = {}
    stores = set()
    for apart, (_, tree) in zip(own([o for o, _ in composed]), composed, strict=True):
        config = bind(tree)
        chosen = tuple(c.name for c in config.choices)
        if chosen not in fingerprints:
            fingerprints[chosen] = code_fingerprint(config)
        job = Job(run_id(config), tuple(apart), config.plain(), fingerprints[chosen])
        jobs.setdefault(job.id, job)
        asked.append(job.id)
        stores.add(folder_of(config))
    if len(stores) > 1:
        raise UserError(f"one plan has one store, not {' and '.join(map(str, sorted(stores)))}")
    return Plan(tuple(jobs.values()), Store(stores.pop() if stores else folder()), asked=tuple(asked))


def planned(overrides: list[str], config_name: str = "config", first: Callable[[Config], None] = lambda config: None) -> Plan:
    """The frozen plan of a command line: read again if nothing that it was made from has changed, else made, see `make`, and frozen. Raises UserError."""
    asked = next((o.partition("=")[2] for o in overrides if o.startswith("store=")), None)
    file = folder(asked) / "plans" / f"{_key(overrides, config_name)}.jsonl"
    if file.is_file():
        try:
            return read(file)
        except UserError:
            pass  # damaged: what it was made from is unchanged, so it is made again
    return freeze(make(overrides, config_name, first), file, overrides)


def _key(overrides: list[str], config_name: str) -> str:
    """A hash of a command line and of the files that its meaning depends on."""
    places = [CONF, RECIPES, *registry.folders(), *(registry.PACKAGE / p for p in ("config", "core", "kernels", "execution"))]
    files = sorted({f for place in places for pattern in ("*.py", "*.yaml") for f in place.rglob(pattern)})
    about = [(str(f), (s := f.stat()).st_mtime_ns, s.st_size) for f in files]
    texts = [*(o.encode(errors="surrogateescape") for o in overrides), *(f.read_bytes() for f in files if f.suffix == ".yaml")]
    variables = sorted(os.environ.items()) if any(b"oc.env" in text for text in texts) else []
    text = json.dumps([overrides, config_name, [str(f) for f in registry.folders()], about, variables])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def name(plan: Plan) -> str:
    """Twelve hex digits that stand for a plan's runs."""
    return hashlib.sha256(" ".join(job.id for job in plan.jobs).encode()).hexdigest()[:12]


def freeze(plan: Plan, file: Path, command: list[str]) -> Plan:
    """Write a plan, a line for itself and a line a job, each with a hash; atomically. It names its store where that is not the folder it is put in."""
    about = {"command": command, "jobs": len(plan.jobs)} | ({} if plan.store.folder == _around(file) else {"store": str(plan.store.folder)})
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        with part.open("w") as stream:
            for content in (about, *map(asdict, plan.jobs)):
                line = json.dumps(content, separators=(",", ":"))
                stream.write(f"{_check(line.encode())} {line}\n")
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return replace(plan, file=file)


def read(file: Path | str) -> Plan:
    """A frozen plan; its store is the one that it names, else the folder that `plans/` is in. Raises UserError for a file that is not there or damaged."""
    file = Path(file)
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"plan {file}: {error.strerror or error}") from error
    for number, line in enumerate(lines, 1):
        if line.partition(b" ")[0] != _check(line.partition(b" ")[2]).encode():
            raise UserError(f"plan {file}, line {number}, is damaged; the command that made it makes it again")
    about, *jobs = [json.loads(line.partition(b" ")[2]) for line in lines] or [{}]
    if about.get("jobs") != len(jobs):
        raise UserError(f"plan {file} has lost jobs; the command that made it makes it again")
    store = about.get("store") or _around(file) or folder(jobs[0]["plain"]["store"] if jobs else None)
    return Plan(tuple(Job(j["id"], tuple(j["own"]), j["plain"], j["code"]) for j in jobs), Store(store), file)


def reread(file: Path | str) -> Plan:
    """A frozen plan with the fingerprints of today's code: what was done by another code is stale."""
    plan = read(file)
    return replace(plan, jobs=tuple(Job(j.id, j.own, j.plain, code_fingerprint(j.config)) for j in plan.jobs))


def _around(file: Path) -> Path | None:
    """The store of a file in its `plans/`, wherever both have been moved together; None for a file elsewhere."""
    return file.parent.parent if file.parent.name == "plans" else None


def _check(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:8]
