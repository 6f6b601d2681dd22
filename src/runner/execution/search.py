"""A search with Optuna: ask for a trial, run it as runs of the store, tell what came out. Only this file and its command need Optuna.

STORE/studies/NAME.log     the study: Optuna's journal, which its own tools read too
STORE/studies/NAME/        the claim of the process that searches
"""

import contextlib
import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from runner.config.space import Space
from runner.core.errors import UserError, nearest
from runner.execution import plan as plans
from runner.execution.claim import Claim
from runner.execution.plan import Job, Plan
from runner.execution.pool import Pool
from runner.execution.store import Store

SAMPLERS = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
PRUNERS = {"median": optuna.pruners.MedianPruner, "none": optuna.pruners.NopPruner}


@dataclass(frozen=True)
class Question:
    """What a study answers.

    Attributes:
        corners: runs at the ends of the space, which stand for all that is fixed.
        metric: of a run, such as `test/acc_best` or `test/acc_last10`, see `Store.measured`; the mean over the seeds counts.
        direction: `maximize` or `minimize`.
        seeds: runs a trial.
    """

    space: Space
    corners: tuple[str, ...]
    metric: str
    direction: str
    seeds: int = 1

    @property
    def key(self) -> str:
        """Twelve hex digits that name it; keys that do not change the result of a run do not change them."""
        about = [asdict(self.space)["axes"], self.space.when, self.corners, self.metric, self.direction, self.seeds]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


@contextlib.contextmanager
def opened(question: Question, store: Store, name: str, sampler: str = "tpe", pruner: str = "median", seed: int = 0) -> Iterator[optuna.Study]:
    """The study of a name, made or gone on with, for this process alone. What a killed process left running is asked for again.

    Raises:
        UserError: another process searches, the study is damaged, or answers another question.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = store.folder / "studies" / f"{name}.log"
    claim = Claim(file.parent / name)
    claim.take()
    try:
        _mend(file)
        try:
            study = optuna.create_study(
                study_name=name, storage=JournalStorage(JournalFileBackend(str(file))), direction=question.direction, load_if_exists=True
            )
        except (ValueError, KeyError) as error:
            raise UserError(f"study {file} is damaged: {error}; choose another --study, what is done is not run again") from error
        if study.user_attrs.get("question", question.key) != question.key:
            raise UserError(f"study {name} searches another space or metric; choose another --study")
        study.set_user_attr("question", question.key)
        _ask_again(study)
        study.sampler = SAMPLERS[sampler](seed=(seed + len(study.trials)) % 2**32)  # not the same draws again; numpy takes no larger seed
        study.pruner = PRUNERS[pruner]()
        yield study
    finally:
        claim.free()


def _mend(file: Path) -> None:
    """Remove what a killed process may have left: its lock, and half a line at the end."""
    file.with_name(f"{file.name}.lock").unlink(missing_ok=True)
    if file.exists():
        with file.open("r+b") as stream:
            stream.truncate(stream.read().rfind(b"\n") + 1)


def _ask_again(study: optuna.Study) -> None:
    """Ask again for the trials that a killed process has left: their runs go on from their checkpoints."""
    again = _again(study)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if trial.number not in again:
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
        study.tell(trial.number, state=TrialState.FAIL)


def _again(study: optuna.Study) -> set[int]:
    return {t.user_attrs["again"] for t in study.trials if "again" in t.user_attrs}


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have ended, without those that were asked for again."""
    again = _again(study)
    return [t for t in study.trials if t.state.is_finished() and t.number not in again]


@dataclass(eq=False)
class _Point:
    """A point of the space: its runs, one a seed, and the trials that wait for them. Several trials may ask for one point."""

    jobs: list[Job]
    trials: list[Trial] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)  # run id -> value of the metric
    told: tuple[TrialState, float | None] | None = None
    reported: int = -1  # step of the last value that the pruner knows


class Search:
    """Gives a pool its jobs, and tells a study how they ended.

    Args:
        composed: from overrides to a composed config; see `runner.config.compose`.
        trials: how many the study shall have in all.
        display: see `runner.report.jobs`.
    """

    def __init__(self, study: optuna.Study, question: Question, composed: Callable[[list[str]], dict], store: Store, trials: int, display):
        self.study, self.question, self.composed, self.store, self.display = study, question, composed, store, display
        self.prunes = not isinstance(study.pruner, optuna.pruners.NopPruner)
        self.left = self.most = max(0, trials - len(finished(study)))
        self.queue: deque[Job] = deque()
        self.points: dict[str, _Point] = {}  # run id -> its point

    def run(self, launcher, retries: int = 0, timeout: float | None = None) -> bool:
        """Run all trials; see `Pool` for the arguments.

        Returns:
            False if it was asked to stop before.

        Raises:
            UserError: the runs do not have the metric.
        """
        self.pool = Pool(Plan((), self.store), launcher, self, retries, timeout=timeout, more=self.more)
        self.pool.run()
        return not self.pool.stopping

    def more(self) -> Job | None:
        """A job for the pool."""
        while not self.queue and self.left:
            self.left -= 1
            self._ask(self.study.ask())
        return self.queue.popleft() if self.queue else None

    def _ask(self, trial: Trial) -> None:
        values = self.question.space.suggest(trial)
        overrides = self.question.space.overrides(values)
        try:
            plan = plans.of((o, self.composed(o)) for o in self._seeded(overrides))
        except UserError as error:
            self.display.console.print(f"runner: trial {trial.number}: {error}", markup=False)
            self.study.tell(trial, state=TrialState.FAIL)
            return
        trial.set_user_attr("overrides", overrides)
        trial.set_user_attr("runs", list(plan.asked))
        known = plan.jobs[0].id in self.points
        point = self.points[plan.jobs[0].id] if known else self._point(plan, values)
        point.trials.append(trial)
        if point.told:
            self._tell(point, *point.told)
        elif not known:
            for job in point.jobs:
                if self.store.state(job.id, job.code) == "done":
                    self._done(point, job)
                else:
                    self.queue.append(job)

    def _seeded(self, overrides: list[str]) -> list[list[str]]:
        return [overrides] if self.question.seeds == 1 else [[*overrides, f"seed={seed}"] for seed in range(self.question.seeds)]

    def _point(self, plan: Plan, values: dict) -> _Point:
        apart = tuple(f"{key}={value}" for key, value in values.items())
        seeds = [(f"seed={job.plain['seed']}",) if self.question.seeds > 1 else () for job in plan.jobs]
        point = _Point([replace(job, own=(*apart, *seed)) for job, seed in zip(plan.jobs, seeds, strict=True)])
        self.points |= {job.id: point for job in plan.jobs}
        return point

    def _done(self, point: _Point, job: Job) -> None:
        """Note a run's value; the last one ends the point."""
        metric = self.question.metric
        value = self.store.measured(job.id, metric)
        if value is None and not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise UserError(f"run {job.id} has no metric '{metric}'{nearest(metric, self.store.done(job.id)['summary'])}")
        point.values[job.id] = value = math.nan if value is None else value
        if not math.isfinite(value):
            self._tell(point, TrialState.FAIL)
        elif len(point.values) == len(point.jobs):
            self._tell(point, TrialState.COMPLETE, sum(point.values.values()) / len(point.jobs))

    def _tell(self, point: _Point, state: TrialState, value: float | None = None) -> None:
        """Tell all trials that wait for a point; nobody needs its other runs any more."""
        point.told = state, value
        for trial in point.trials:
            self.study.tell(trial, value, state)
        point.trials.clear()
        for job in point.jobs:
            if job in self.queue:
                self.queue.remove(job)
            elif job.id in self.pool.running:
                self.pool.drop(job.id)

    def _prune(self, point: _Point) -> None:
        """Let the pruner see what the first run of a point has measured, and judge it."""
        job, trial = point.jobs[0], point.trials[0]
        if self.store.state(job.id, job.code) != "running":
            return
        name = self.question.metric.rpartition("_")[0]
        rows = [r for r in self.store.rows(job.id) if r["step"] > point.reported and r.get(name) is not None]
        for row in rows:
            trial.report(row[name], row["step"])
            point.reported = row["step"]
        if rows and trial.should_prune():
            self._tell(point, TrialState.PRUNED)

    # the display of the pool

    def showing(self, plan, chosen):
        return self.display.showing(plan, range(self.most * self.question.seeds))

    def started(self, job: Job) -> None:
        self.display.started(job)
        if self.points[job.id].told:  # since it was asked for
            self.pool.drop(job.id)

    def ended(self, job: Job, state: str, seconds: float, why: str, log) -> None:
        point = self.points[job.id]
        if point.told is None and state == "done":
            self._done(point, job)
        if point.told is None and state == "failed":
            self._tell(point, TrialState.FAIL)
        if state == "done":
            job = replace(job, own=(*job.own, f"{self.question.metric} {point.values.get(job.id, math.nan):.4g}"))
        pruned = state == "stopped" and point.told is not None
        self.display.ended(job, "pruned" if pruned else state, seconds, why, log)

    def progress(self, running: dict) -> None:
        self.display.progress(running)
        for job in running:
            point = self.points[job.id]
            if self.prunes and point.told is None and job.id == point.jobs[0].id:
                self._prune(point)
