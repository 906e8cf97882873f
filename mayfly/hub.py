"""What the model hub says of a model: commit, files, licence, config.json. Reads, never writes."""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly.errors import FailedError, WrongInputError

NOTHING_WRITTEN = "Nothing was written."


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model at one commit. size_bytes, shards: of its *.safetensors. licence: "" if untold."""

    model: str
    revision: str
    licence: str
    size_bytes: int
    shards: int
    config: dict[str, Any]


def read(model: str, revision: str) -> HubModel:
    """The hub at HF_ENDPOINT, with the token of huggingface_hub's own login if there is one.

    Raises WrongInputError for a model that cannot be meant, FailedError where the hub fails.
    """
    # Imported here: it takes a second that no other command should wait.
    import httpx2
    from huggingface_hub import HfApi, errors

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise WrongInputError(f"{model!r} is no hub id, organisation/name.", NOTHING_WRITTEN)
    api = HfApi()
    try:
        info = api.model_info(model, revision=revision, files_metadata=True)
        with tempfile.TemporaryDirectory() as folder:
            path = api.hf_hub_download(model, "config.json", revision=info.sha, local_dir=folder)
            config = json.loads(Path(path).read_text(encoding="utf-8"))
    except errors.GatedRepoError:
        raise WrongInputError(
            f"{model} is gated: its licence must be accepted on the hub first.",
            NOTHING_WRITTEN,
            "Try: hf auth login, with the token of an account that has access",
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise WrongInputError(
            f"The hub has no {model} at {revision}, or shows it to others only.", NOTHING_WRITTEN
        ) from None
    except errors.EntryNotFoundError:
        raise WrongInputError(
            f"{model} has no config.json: is it a language model?", NOTHING_WRITTEN
        ) from None
    except (errors.HfHubHTTPError, httpx2.HTTPError, OSError, ValueError) as error:
        raise FailedError(f"The hub did not answer for {model}: {error}", NOTHING_WRITTEN) from None
    sizes = [s.size or 0 for s in info.siblings or [] if s.rfilename.endswith(".safetensors")]
    if not sizes or not isinstance(config, dict):
        raise WrongInputError(f"{model} has no *.safetensors to serve.", NOTHING_WRITTEN)
    return HubModel(
        model=model,
        revision=str(info.sha),
        licence=str(getattr(info.card_data, "license", None) or ""),
        size_bytes=sum(sizes),
        shards=len(sizes),
        config=config,
    )
