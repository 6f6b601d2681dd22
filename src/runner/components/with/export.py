"""At the end of a run the trained network becomes a folder of files, from which another run, or the library `transformers`, begins."""

import json
import shutil
import tempfile
from pathlib import Path

from torch.nn.utils import parametrize

from runner import UserError, card

CARD = card(source="library `transformers`, save_pretrained; weights as safetensors", rung={"step_end": "average"}, uses=("eval-weights",))
MARK = "runner.json"


class Export:
    def __init__(self, path):
        self.path = path

    def setup(self, state):
        folder = Path(self.path).expanduser()
        if not hasattr(state.model, "save"):
            raise UserError("with/export needs a model that can be written and read again, as model=causal_lm; leave it out of with")
        if any(parametrize.is_parametrized(m) for m in state.model.modules()):
            raise UserError("with/export writes weights as they are; a component of this run computes some from others: leave one of them out")
        if not state.clock.total:
            raise UserError("with/export writes after the last step, and this run has none; see trainer.duration")
        if folder.exists() and not (folder / MARK).is_file():
            raise UserError(f"with.export.path={folder} is there and no export of before; name another folder")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder.parent).close()
        except OSError as error:  # known now, not after the training
            raise UserError(f"with.export.path={folder} cannot be written: {error.strerror}") from error

    def step_end(self, state):
        if state.step + 1 < state.clock.total:
            return
        state.enforce_masks()
        if state.world.rank:
            state.model.save(None)
            return
        folder = Path(self.path).expanduser()
        part, old = (folder.with_name(f"{folder.name}.{kind}") for kind in ("part", "old"))
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed while it wrote
        try:
            state.model.save(part)
            (part / MARK).write_text(json.dumps({"steps": state.step + 1, "seed": state.rng.seed}))
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def build(path: str):
    """After the last step: the network with its tokenizer as files that `model.path` and `data.tokenizer` of another run take, in float32.

    What is written is what is trained, with LoRA's corrections added to the weights. No average of the weights can be kept beside it. The folder is there
    whole or not at all; one that an export of before has written is replaced, any other refused before the run. Of several processes the first writes.

    Args:
        path: folder to write; give the runs of a sweep one each, such as `base-${seed}`.
    """
    return Export(path)
