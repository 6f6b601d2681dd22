"""Finding and fetching files of public data sets: a file is there whole or not at all, and without a network it is said at once."""

import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from runner import UserError

TIMEOUT = 10  # seconds without an answer
FAILED: dict[str, str] = {}  # address -> why it could not be had in this process; not tried again


def cache() -> Path:
    """Where downloads go unless the user names a folder."""
    return Path("~/.cache/runner").expanduser()


def absent(what: str, places: list, how: str, why: object = "") -> UserError:
    """The error for data that is not on this machine, on one line."""
    reason = f" (download: {' '.join(str(why).split())})" if why else ""
    return UserError(f"{what} is not on this machine: looked in {', '.join(map(str, places))}{reason}; {how}")


def md5_of(file: Path) -> str | None:
    """The MD5 sum of a file, None if there is none."""
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fetch(url: str, file: Path, md5: str) -> None:
    """Download a file unless it is there whole; it appears under its name only when complete and right.

    Raises:
        OSError: no network, no such file, damaged on the way, or no place to write.
    """
    if md5_of(file) == md5:
        return
    if os.environ.get("RUNNER_OFFLINE"):
        raise OSError("RUNNER_OFFLINE is set")
    if url in FAILED:
        raise OSError(FAILED[url])
    request = urllib.request.Request(url, headers={"User-Agent": "runner"})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        FAILED[url] = f"{url.split('/')[2]}: {getattr(error, 'reason', error)}"
        raise OSError(FAILED[url]) from error
    file.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {url} -> {file}", file=sys.stderr)
    with answer, tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}.", delete=False) as part:
        try:
            while block := answer.read(2**20):
                part.write(block)
            part.flush()
            if md5_of(Path(part.name)) != md5:
                raise OSError(f"{url} arrived damaged")
            os.chmod(part.name, 0o644)
            os.replace(part.name, file)
        except http.client.HTTPException as error:
            raise OSError(f"{url} broke off: {error!r}") from error
        finally:
            Path(part.name).unlink(missing_ok=True)


def unpack(archive: Path, folder: Path) -> None:
    """The files of an archive under `folder`, each of them moved into place when all are complete; links are left out.

    Raises:
        tarfile.TarError: the archive is damaged, or names a file outside the folder.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacking.") as place, tarfile.open(archive) as bundle:
        names = [member.name for member in bundle if member.isfile()]  # extractall(filter=...) is not in every Python 3.11
        if outside := [name for name in names if not (Path(place) / name).resolve().is_relative_to(Path(place).resolve())]:
            raise tarfile.TarError(f"{archive} would write {outside[0]}, outside {folder}")
        for name in names:
            file = Path(place) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with bundle.extractfile(name) as source, file.open("wb") as target:
                shutil.copyfileobj(source, target)
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(place) / name, target)
