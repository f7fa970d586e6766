"""The teachers of the task ``shapes``, as ParlAI loads them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from parlai.core.image_featurizers import ImageLoader
from parlai.core.loader import register_teacher
from parlai.core.message import Message
from parlai.core.params import ParlaiParser
from parlai.core.teachers import FixedDialogTeacher
from parlai.utils.data import DatatypeHelper
from PIL import Image

from model_chat.tasks.shapes.scenes import Scene, Turn, caption, dialogue, draw, make_scene

TRAINING_PICTURES = 600
HELD_OUT_PICTURES = 150
"""Pictures of ``valid``, and as many of ``test``."""


@lru_cache(maxsize=1_024)
def _picture(split: str, number: int, seed: int) -> Image.Image:
    """Draw a picture; about 110 kB each are kept, so that an epoch is drawn once and not a turn at a time."""
    return draw(make_scene(split, number, seed))


@register_teacher("shapes")
class DefaultTeacher(FixedDialogTeacher):
    """Dialogues of five turns about each picture: the caption first, then questions about colours, shapes and so on.

    Acts have the fields ``text``, ``labels``, ``image`` (as ``--image-mode`` says), ``image_id`` and ``things``: a list of
    ``[colour, shape, x, y]``, the centres as shares of the picture's side.
    """

    def __init__(self, opt: Any, shared: Any = None) -> None:
        self.id = "shapes"
        self.split = DatatypeHelper.fold(opt["datatype"])
        self.seed = opt.get("shapes_seed", 0)
        self.image_mode = opt.get("image_mode", "no_image_model")
        if shared:
            self.scenes, self.dialogues, self.loader = shared["scenes"], shared["dialogues"], shared["loader"]
        else:
            is_training = self.split == "train"
            count = opt.get("shapes_pictures", TRAINING_PICTURES) if is_training else HELD_OUT_PICTURES
            self.scenes = [make_scene(self.split, number, self.seed) for number in range(count)]
            self.dialogues = [self.turns(scene) for scene in self.scenes]
            # Only where features are wanted: it loads torchvision and its weights.
            self.loader = None if self.image_mode in ("raw", "no_image_model", "none", None) else ImageLoader(opt)
        super().__init__(opt, shared)
        self.reset()

    @classmethod
    def add_cmdline_args(cls, parser: ParlaiParser, partial_opt: Any = None) -> ParlaiParser:
        """Add ``--shapes-pictures`` and ``--shapes-seed``."""
        super().add_cmdline_args(parser, partial_opt)
        group = parser.add_argument_group("Shapes task")
        group.add_argument(
            "--shapes-pictures", type=int, default=TRAINING_PICTURES, help="number of training pictures to draw"
        )
        group.add_argument("--shapes-seed", type=int, default=0, help="another seed draws other pictures")
        return parser

    def turns(self, scene: Scene) -> list[Turn]:
        """Return what is said about a picture."""
        return dialogue(scene, self.seed)

    def num_episodes(self) -> int:
        """Return the number of pictures."""
        return len(self.scenes)

    def num_examples(self) -> int:
        """Return the number of turns."""
        return sum(map(len, self.dialogues))

    def get(self, episode_idx: int, entry_idx: int = 0) -> Message:
        """Return one turn about one picture."""
        scene, turns = self.scenes[episode_idx], self.dialogues[episode_idx]
        act = {
            "id": self.id,
            "text": turns[entry_idx].text,
            "labels": [turns[entry_idx].label],
            "image_id": scene.image_id,
            "things": [[thing.colour, thing.shape, thing.x, thing.y] for thing in scene.things],
            "episode_done": entry_idx == len(turns) - 1,
        }
        image = self._image(scene)
        if image is not None:
            act["image"] = image
        return Message(act)

    def _image(self, scene: Scene) -> Any:
        if self.image_mode in ("no_image_model", "none", None):
            return None
        picture = _picture(scene.split, scene.number, self.seed)
        if self.loader is None:
            return picture
        if self.image_mode == "ascii":
            return self.loader._img_to_ascii(picture.copy())
        return self.loader.extract(picture)

    def share(self) -> dict[str, Any]:
        """Share the scenes with the copies that a batch needs."""
        shared: dict[str, Any] = super().share()
        shared.update(scenes=self.scenes, dialogues=self.dialogues, loader=self.loader)
        return shared


@register_teacher("shapes:caption")
class CaptionTeacher(DefaultTeacher):
    """One turn a picture: nothing is asked, and the caption is the answer."""

    def turns(self, scene: Scene) -> list[Turn]:
        """Return the caption alone."""
        return [Turn("", caption(scene))]
