"""The same runs as a plain Hydra application: `python app.py -m OVERRIDES` trains in Hydra's own launchers. For scripts/bench_sweep.py."""

import hydra
from omegaconf import OmegaConf

from runner.config.bind import bind
from runner.config.source import register
from runner.execution.run import execute
from runner.execution.worker import Log


def train(config) -> None:
    execute(bind(OmegaConf.to_container(config, resolve=True)), Log())


if __name__ == "__main__":
    register()
    hydra.main(version_base="1.3", config_path=None, config_name="config")(train)()
