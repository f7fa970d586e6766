"""Images in the form that each model wants (ParlAI's ``--image-mode``), and whether a model looks at them at all."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from model_chat.errors import ConfigurationError
from model_chat.images.contexts import ImageContexts
from model_chat.serving.batching import Asked, reply_alone
from model_chat.serving.loading import LoadedModel
from model_chat.serving.model import ServedModel

logger = logging.getLogger(__name__)

NO_IMAGES = frozenset({None, "", "none", "no_image_model"})
CACHED_FEATURES = 256
FLAG = "mephisto.blueprint.image_models"
ANSWERS = frozenset({"labels", "eval_labels"})
"""Keys of a teacher's act that a model in a chat must not see: ParlAI's agents would take them for what they replied."""


class ImageInput:
    """Makes of each image what one model wants, once: features are kept for the next conversation about the image.

    ``_lock`` guards the features and the network that makes them.

    Args:
        model: its opt says the ``image_mode``.

    Raises:
        ConfigurationError: the image mode is not available, or isn't one for images.
    """

    def __init__(self, model: ServedModel, images: ImageContexts) -> None:
        self.mode = model.opt.get("image_mode")
        self._images = images
        self._lock = threading.Lock()
        self._features: OrderedDict[int, Any] = OrderedDict()
        self._loader: Any = None
        if self.mode in NO_IMAGES:
            raise ConfigurationError(
                f"{FLAG}: the model '{model.nickname}' takes no images (its image_mode is '{self.mode}'); leave it out, or "
                "name a model that was trained with images."
            )
        if self.mode != "raw":
            self._loader = _image_loader(model)

    def act(self, image_idx: int) -> dict[str, Any]:
        """Return what the image's teacher said about it, as the image file holds it."""
        return self._images[image_idx].act

    def __getitem__(self, image_idx: int) -> Any:
        """Return the image: a PIL image for ``raw``, text for ``ascii``, else a tensor of features."""
        if self.mode == "raw":
            return self._images[image_idx].open()
        with self._lock:
            if image_idx not in self._features:
                picture = self._images[image_idx].open()
                is_ascii = self.mode == "ascii"
                made = self._loader._img_to_ascii(picture) if is_ascii else self._loader.extract(picture).cpu()
                self._features[image_idx] = made
                if len(self._features) > CACHED_FEATURES:
                    self._features.popitem(last=False)
            self._features.move_to_end(image_idx)
            return self._features[image_idx]


def _image_loader(model: ServedModel) -> Any:
    """Return ParlAI's maker of features.

    Raises:
        ConfigurationError: torchvision is not installed, the network's weights are not available, or there is no such mode.
    """
    from parlai.core.image_featurizers import IMAGE_MODE_SWITCHER, ImageLoader

    mode = model.opt.get("image_mode")
    about = f"{FLAG}: the model '{model.nickname}' wants images as '{mode}'"
    if mode != "ascii" and mode not in IMAGE_MODE_SWITCHER:
        raise ConfigurationError(
            f"{about}, which can't be made of a picture here; use a model whose image_mode is raw, ascii or one of "
            f"{', '.join(IMAGE_MODE_SWITCHER)}."
        )
    try:
        return ImageLoader(model.opt)
    except ImportError as error:
        raise ConfigurationError(
            f"{about}, and that takes torchvision ({error}); install it with: pip install 'model-chat[resnet]' "
            "(see docs/image-chat.md)."
        ) from error
    except Exception as error:  # torch.hub raises all sorts of errors for a download that fails
        raise ConfigurationError(
            f"{about}, and the network that makes it can't be loaded ({type(error).__name__}: {error}); put its weights "
            f"into {torch.hub.get_dir()}/checkpoints, or start once where they can be downloaded."
        ) from error


def check_takes_images(model: ServedModel, images: ImageInput) -> None:
    """Let a model say the first word about the first image, and see whether it looks at it.

    A text model has an image mode as well and passes over an image without a word, so nothing in its options tells.
    An agent that looks in ways which can't be watched (it sends the picture away, say) has an attribute
    ``takes_images = True``.

    Raises:
        ConfigurationError: it doesn't look, gives no reply, or raises.
    """
    model.examine(_check_looks, images[0], images.act(0))


def _check_looks(model: LoadedModel, shown: Any, act: Mapping[str, Any]) -> None:
    """Show an image to a model that is in this process."""
    looked_at = threading.Event()
    watched: Any = shown
    if isinstance(shown, Image.Image):
        watched = _WatchedPicture.of(shown, looked_at)
    elif isinstance(shown, torch.Tensor):
        watched = _WatchedFeatures.of(shown, looked_at)
    failure: Exception | None = None
    text: Any = None
    try:
        text = reply_alone(Asked(model.clone(), [first_message(watched, act)])).get("text")
    except Exception as error:  # an agent's own code may raise anything
        logger.debug("%s failed on an image", model.nickname, exc_info=True)
        failure = error
    declared = getattr(model.agent, "takes_images", None)
    can_watch = watched is not shown
    # Text models often break on an image without a word as well: that they don't look is the better reason.
    if declared is False or (declared is None and can_watch and not looked_at.is_set()):
        raise ConfigurationError(
            f"{FLAG}: the model '{model.nickname}' takes no images (it was shown one and did not look at it); leave it out, "
            "or name a model that was trained with images."
        ) from failure
    if failure is not None:
        raise ConfigurationError(
            f"{FLAG}: the model '{model.nickname}' can't say a first word about an image: {type(failure).__name__}: "
            f"{' '.join(str(failure).split())[:300].rstrip('.')}; use a model that can, or leave it out."
        ) from failure
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(
            f"{FLAG}: the model '{model.nickname}' gives no reply to an image when it has the first turn; use a model that "
            "does, or leave it out."
        )


def first_message(image: Any, act: Mapping[str, Any]) -> Any:
    """What a model observes before it says the first word: the image, and the teacher's act about it.

    Args:
        act: the teacher's, as the image file holds it; without a text, nothing has been said.
    """
    from parlai.core.message import Message

    return Message({"id": "Speaker 1", "text": "", **_shown(act), "image": image, "episode_done": False})


def repeated_keys(act: Mapping[str, Any]) -> dict[str, Any]:
    """What of a teacher's act a model gets again with every message: all but what was said, and who said it."""
    return {key: value for key, value in _shown(act).items() if key not in ("text", "id", "episode_done")}


def _shown(act: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in act.items() if key not in ANSWERS and value is not None}


class _WatchedPicture(Image.Image):
    """A picture that notices when something of it is asked for; handing it on, or copying a reference, is no look."""

    @classmethod
    def of(cls, picture: Image.Image, looked_at: threading.Event) -> _WatchedPicture:
        made = cls()
        made.__dict__.update(picture.__dict__)
        made.__dict__["_looked_at"] = looked_at
        return made

    def __getattribute__(self, name: str) -> Any:
        if name not in ("__class__", "__dict__", "_looked_at"):
            looked_at = object.__getattribute__(self, "__dict__").get("_looked_at")
            if looked_at is not None:
                looked_at.set()
        return super().__getattribute__(name)


class _WatchedFeatures(torch.Tensor):
    """Features that notice when something is calculated with them."""

    _looked_at: threading.Event

    @classmethod
    def of(cls, features: torch.Tensor, looked_at: threading.Event) -> _WatchedFeatures:
        made = features.as_subclass(cls)
        made._looked_at = looked_at
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in [*args, *(kwargs or {}).values()]:
            for item in value if isinstance(value, list | tuple) else [value]:
                looked_at = getattr(item, "__dict__", {}).get("_looked_at") if isinstance(item, cls) else None
                if looked_at is not None:
                    looked_at.set()
        return super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]  # torch's
