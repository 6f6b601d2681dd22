"""Reading from the Hugging Face hub: what is on this machine at once, the rest where the hub answers; no code of a repository is run."""

import contextlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from runner import UserError

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")  # as the libraries read them


def answers(endpoint: str) -> bool:
    """Whether the hub may be asked, and is there: its libraries try for minutes where it is not."""
    if os.environ.get("RUNNER_OFFLINE") or any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE):
        return False
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException, ValueError):  # no network, a proxy that speaks no HTTP, no address
        return False
    return True


@contextlib.contextmanager
def alone(*others):
    """The library huggingface_hub, and `others` with a flag of the same name such as `datasets.config`, ask nobody and do not retry."""
    from huggingface_hub import constants

    modules = (constants, *others)
    before = [m.HF_HUB_OFFLINE for m in modules]
    for m in modules:
        m.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for m, value in zip(modules, before, strict=True):
            m.HF_HUB_OFFLINE = value


@contextlib.contextmanager
def silent(transformers):
    """No warnings and no bars of the library."""
    said = transformers.logging
    level, bar = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        yield
    finally:
        said.set_verbosity(level)
        if bar:
            said.enable_progress_bar()


def read(kind: str, path: str, what: str, who: str, key: str, **values):
    """`transformers.KIND.from_pretrained(path, ...)`.

    Args:
        kind: class of the library, such as AutoTokenizer.
        path: name on the hub, or a folder of its files.
        what: it is, for errors: `pretrained model`.
        who: needs it: `model=pretrained`.
        key: of the configuration that chooses another: `model.path`.
        values: further ones of `from_pretrained`.

    Raises:
        UserError: no library, no such files, files that it cannot use.
    """
    try:
        import transformers
        from huggingface_hub import constants
    except ImportError:
        raise UserError(f"{who} needs the library transformers: pip install transformers") from None
    place = Path(path).expanduser()
    where = str(place) if place.is_dir() else path
    load = lambda offline: getattr(transformers, kind).from_pretrained(where, local_files_only=offline, trust_remote_code=False, **values)
    unusable = lambda error: UserError(f"{what} '{path}' cannot be used: {' '.join(str(error).split())[:300] or type(error).__name__}")
    try:
        with silent(transformers):
            try:
                with alone():  # without it the library asks the hub even for local files
                    return load(True)
            except OSError:
                if place.is_dir() or not answers(constants.ENDPOINT):
                    raise
                return load(False)
    except OSError as error:
        if place.is_dir():
            raise unusable(error) from error
        said = (str(error).splitlines() or [type(error).__name__])[0]
        places = f"looked in {place.absolute()}, the cache of huggingface_hub, the hub ({said})"
        raise UserError(f"{what} '{path}' is not on this machine: {places}; set {key} to a name on the hub or a folder of its files") from error
    except Exception as error:  # what a damaged file or another kind of model raises is the library's affair
        raise unusable(error) from error


def tokenizer(path: str, who: str, key: str):
    """The tokenizer of a model; one without a padding token, as of GPT-2 and Llama, pads with the token that ends a text. Raises UserError."""
    found = read("AutoTokenizer", path, "tokenizer", who, key)
    if len(found) <= len(found.all_special_tokens):
        raise UserError(f"there is no tokenizer in '{path}', which knows no words; choose another with {key}")
    if found.pad_token_id is None:
        if found.eos_token_id is None:
            raise UserError(f"the tokenizer of '{path}' has no padding token and none that ends a text; choose another with {key}")
        found.pad_token = found.eos_token
    if found.pad_token_id in found("")["input_ids"]:  # a model would not see it, or take it for the end
        raise UserError(f"the tokenizer of '{path}' puts its padding token {found.pad_token} into every text; choose another with {key}")
    return found
