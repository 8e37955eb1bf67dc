"""Models by their names at Hugging Face: looked up in its cache, and downloaded only on request.

huggingface_hub does both. It is imported only if a name is not a folder, since the import is slow.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ..disk.read import PathLike
from ..errors import InputError
from .checkpoint import shard_files
from .foreign import WEIGHTS

REVISION = "main"
TOKENIZERS = ("tokenizer.json", "spiece.model")
# Optional files, which are read if a model has them.
OPTIONAL_FILES = (
    "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "groups.json", "passages.jsonl", "questions.jsonl",
)  # fmt: skip
SECONDS = 30  # how long the list of files may take
FETCH = "--download (in Python download=True) fetches it"


class Repository(Protocol):
    """The files of a model, by their names in its repository."""

    def has(self, file: str) -> bool:
        """Does the file exist?"""

    def path(self, file: str) -> Path:
        """The path of a file that exists, on this machine."""


Needed = Callable[[Repository], list[str]]


class Cached:
    """The files of one revision in the cache."""

    def __init__(self, name: str, revision: str) -> None:
        self.name, self.revision = name, revision

    def has(self, file: str) -> bool:
        """Does the file exist, and is it more than a broken link?"""
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(self.name, file, revision=self.revision), str)

    def path(self, file: str) -> Path:
        """Its path below the folder snapshots/COMMIT."""
        from huggingface_hub import try_to_load_from_cache

        return Path(str(try_to_load_from_cache(self.name, file, revision=self.revision)))


class Listed:
    """The files of one revision that the Hub lists."""

    def __init__(self, name: str, revision: str, files: Collection[str]) -> None:
        self.name, self.revision, self.files = name, revision, files

    def has(self, file: str) -> bool:
        """Is the file in the list?"""
        return file in self.files

    def path(self, file: str) -> Path:
        """The path of the file, which is downloaded."""
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self.name, file, revision=self.revision))


def weight_files(repository: Repository, at: str = "") -> list[str]:
    """The files that `open_checkpoint` reads: safetensors, whole or in shards, or else those of PyTorch."""
    name = next((f"{at}{name}" for name in WEIGHTS if repository.has(f"{at}{name}")), f"{at}{WEIGHTS[0]}")
    if not name.endswith(".index.json") or not repository.has(name):
        return [name]
    return [name, *(f"{at}{shard}" for shard in sorted(set(shard_files(repository.path(name)).values())))]


def model_files(repository: Repository, at: str = "") -> list[str]:
    """The files of a T5 or of a model of ours: config.json first.

    Args:
        at: the folder within the repository, "" or with a slash at the end.
    """
    tokenizer = next((name for name in TOKENIZERS if repository.has(f"{at}{name}")), TOKENIZERS[0])
    optional = [f"{at}{name}" for name in OPTIONAL_FILES if repository.has(f"{at}{name}")]
    return [f"{at}config.json", *weight_files(repository, at), f"{at}{tokenizer}", *optional]


def is_name(name: PathLike) -> bool:
    """Is it the name of a model at Hugging Face? A file or folder of that name comes first; a Path is never one."""
    if not isinstance(name, str) or os.path.lexists(name):
        return False
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _only_at_the_hub(cached: Cached, file: str) -> bool:
    """Does the cache list a file that it does not hold? That happens if version 2 of the library filled it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import LocalEntryNotFoundError

    if cached.has(file):
        return False
    try:
        snapshot_download(cached.name, revision=cached.revision, local_files_only=True, allow_patterns=[file])
    except LocalEntryNotFoundError:
        return True
    return False


def _missing(name: str, revision: str, needed: Needed) -> list[str]:
    """The needed files that are not in the cache."""
    cached = Cached(name, revision)
    files = needed(cached)
    missing = [file for file in files if not cached.has(file)]
    if missing:
        return missing
    at = next(file.removesuffix(name) for file in files for name in TOKENIZERS if file.endswith(name))
    return [f"{at}{name}" for name in OPTIONAL_FILES if _only_at_the_hub(cached, f"{at}{name}")]


def _refusal(name: str, revision: str, missing: list[str]) -> InputError:
    from huggingface_hub import constants

    cached = Cached(name, revision)
    if any(cached.has(file) for file in ("config.json", "modules.json", *WEIGHTS, *TOKENIZERS, *OPTIONAL_FILES)):
        more = f" and {len(missing) - 1} more" * (len(missing) > 1)
        return InputError(
            f"{name}, revision {revision}",
            "all its files in the cache",
            f"only some, without {missing[0]}{more}",
            FETCH,
        )
    cache = getattr(constants, "HF_HUB_CACHE", constants.HUGGINGFACE_HUB_CACHE)  # older versions lack the first name
    got = f"no such folder, and no revision {revision} of it in {cache}"
    return InputError(
        name, "a folder, or a model in Hugging Face's cache", got, f"if it is a model at Hugging Face, {FETCH}"
    )


def _fetch(name: str, revision: str, needed: Needed) -> None:
    """Download the needed files into the cache, which then knows the commit of the revision."""
    from huggingface_hub import HfApi, constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise InputError(
            name, "a connection, to fetch it", "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE", "unset that variable"
        )
    info = HfApi().model_info(name, revision=revision, timeout=SECONDS)
    listed = Listed(name, revision, {x.rfilename for x in info.siblings or ()})
    files = needed(listed)
    absent = [file for file in files if not listed.has(file)]
    if absent:
        do = "perhaps it is not a T5, or not in safetensors or PyTorch's format"
        raise InputError(f"{name}, revision {revision}", "a model that can be read", f"no {', '.join(absent)}", do)
    snapshot_download(name, revision=revision, allow_patterns=[glob.escape(file) for file in files])


@contextmanager
def _in_one_line(name: str, revision: str) -> Iterator[None]:
    """A block in which the errors of the library become one line."""
    from huggingface_hub import constants
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except InputError:
        raise
    except GatedRepoError:
        do = "ask for access on its page, then set HF_TOKEN to a token of yours"
        raise InputError(name, "a model that you may read", "a gated one", do) from None
    except RevisionNotFoundError:
        raise InputError(
            f"{name}, revision {revision}", "a branch, a tag or a commit of the model", "none of that name"
        ) from None
    except RepositoryNotFoundError:
        do = "a private one needs HF_TOKEN"
        raise InputError(
            name, "a folder, or a model at Hugging Face", f"neither; asked {constants.ENDPOINT}", do
        ) from None
    # Errors of the HTTP client, which differs between versions, or of the disk: they have no other common base class.
    except Exception as error:
        words = str(error).strip().partition("\n")[0][:160]
        got = f"{type(error).__name__}: {words}"
        raise InputError(name, f"a model in the cache or at {constants.ENDPOINT}", got) from None


def find(name: PathLike, download: bool = False, revision: str | None = None, needed: Needed = model_files) -> Path:
    """The folder of a model: `name` itself if it is a folder, else the folder in Hugging Face's cache.

    The commit is the name of a folder in the cache. Files in the cache are never downloaded again; without `download`
    no file is downloaded.

    Args:
        name: a folder, or a name such as "google/t5-v1_1-base".
        download: download what the cache does not hold.
        revision: a branch, a tag or a commit; "main" if not given.
        needed: the files that are required; the first lies in the top folder.

    Raises:
        InputError: a revision was given for a folder; the cache does not hold all files, and they cannot be downloaded.
    """
    if not is_name(name):
        if revision is not None:
            raise InputError(
                "revision", "none for a folder, which has only one", f"{revision} for {name}", "leave it out"
            )
        return Path(name)
    name, revision = str(name), revision or REVISION
    with _in_one_line(name, revision):
        if download and _missing(name, revision, needed):
            _fetch(name, revision, needed)
        missing, cached = _missing(name, revision, needed), Cached(name, revision)
        if missing:
            raise _refusal(name, revision, missing)
        return cached.path(needed(cached)[0]).parent
