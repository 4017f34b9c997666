"""Models of ours as folders of the Hugging Face format, and onto the hub."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from diptych.capabilities.card import CARD, begun, completed
from diptych.capabilities.load import architecture_of, load
from diptych.capabilities.predictor import Predictor
from diptych.core.errors import ConfigError, DiptychError, MissingExtra
from diptych.core.records.run_folder import RunFolder
from diptych.core.storage import atomic_folder


def export(model: Predictor | str | Path, folder: Path | str, licence: str = "") -> Path:
    """Writes a folder that `transformers` or `diffusers` loads: weights, configuration, preprocessing, tokenizer, card.

    Args:
        model: a predictor, or what `load` takes; of a run, the card says what it learned from and what it scored.
        folder: must not exist yet.
        licence: the hub's name of one, for the card; "" for none yet.

    Returns:
        the folder.

    Raises:
        ConfigError: the folder exists, or no public format expresses this architecture.
    """
    place = Path(folder)
    if place.exists():
        raise ConfigError(f"{place} exists already: choose another folder")
    predictor = model if isinstance(model, Predictor) else load(model)
    module = import_module(type(predictor).__module__)
    if not hasattr(module, "export_to"):
        raise ConfigError(f"{predictor.name} has no Hugging Face format: nothing there expresses its architecture")
    run = None if isinstance(model, Predictor) or not RunFolder.is_one(Path(model)) else RunFolder(Path(model))
    with atomic_folder(place) as part:
        module.export_to(predictor, part)
        card = part / CARD
        said = card.read_text(encoding="utf-8") if card.is_file() else _plain_card(predictor, part)
        card.write_text(completed(said, run, licence), encoding="utf-8")
    return place


def _plain_card(predictor: Predictor, folder: Path) -> str:
    """Of a folder of diffusers, whose files say everything else."""
    kind = architecture_of(folder)
    count = sum(one.numel() for one in predictor.module.parameters())
    usage = f'```python\nfrom diffusers import {kind}\nmodel = {kind}.from_pretrained("this/folder")\n```'
    return begun(predictor.name, kind, count, "diffusers", usage)


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Uploads an exported folder to the hub, as one commit.

    Args:
        repository: "name" or "org/name"; made where it is not there yet.
        public: whether a repository that is made here is for everyone to see.

    Returns:
        the address of the commit.

    Raises:
        MissingExtra: huggingface_hub is not installed.
        DiptychError: the hub refused, or could not be reached; the folder is there all the same.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    except ModuleNotFoundError as error:
        raise MissingExtra("huggingface_hub", "transformers", f"uploading to '{repository}'") from error
    hub = huggingface_hub.HfApi()
    try:
        made = hub.create_repo(repository, private=not public, exist_ok=True)
        commit = hub.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message="Model written by diptych")
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        reason = f"{error}".strip().partition("\n")[0]
        raise DiptychError(
            f"{folder} is written, but could not be uploaded to {repository}: {reason}; `hf upload {repository} "
            f"{folder}` tries again"
        ) from error
    return str(commit)
