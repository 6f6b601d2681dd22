"""Weights & Biases, online or offline. Without an account or a network the run goes on offline and says so."""

from typing import Literal

from runner import card

CARD = card()


class Wandb:
    def __init__(self, project, entity, mode, timeout):
        self.project, self.entity, self.mode, self.timeout = project, entity, mode, timeout

    def start(self, record):
        import wandb

        mode = self.mode
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            wandb.termwarn("no account is logged in: this run is kept offline; `wandb sync` sends it later")
            mode = "offline"
        config = record.config.plain()
        settings = wandb.Settings(init_timeout=self.timeout, silent=True, x_disable_stats=True)
        start = lambda mode: wandb.init(
            project=self.project,
            entity=self.entity,
            id=record.id,
            name=record.id,
            dir=record.folder,
            config=config,
            mode=mode,
            resume="allow",
            settings=settings,
        )
        try:
            self.run = start(mode)
        except wandb.errors.Error as error:
            if mode == "offline":
                raise
            wandb.termwarn(f"offline, because: {str(error).splitlines()[0]}")
            self.run = start("offline")

    def log(self, row):
        self.run.log({k: v for k, v in row.items() if k != "step"}, step=row["step"])

    def finish(self, summary):
        self.run.summary.update(summary)

    def close(self):
        self.run.finish()


def build(project: str = "runner", entity: str | None = None, mode: Literal["online", "offline"] = "online", timeout: float = 20.0):
    """One W&B run with the id of the record, so that a resumed run goes on there too.

    Args:
        project: name of the project.
        entity: user or team; the account's own if not given.
        mode: `offline` writes to the record, for a later `wandb sync`.
        timeout: > 0; seconds to wait for the server before going offline.
    """
    return Wandb(project, entity, mode, timeout)
