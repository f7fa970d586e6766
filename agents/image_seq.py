"""A small ParlAI model that sees: a convolutional encoder, a transformer decoder, learned together.

Named ``--model model_chat.agents.image_seq:ImageSeqAgent``. It takes the picture itself (``--image-mode raw``) from
``observation["image"]`` on every turn, so it needs neither torchvision nor weights from anywhere. The picture is cut into
a grid of cells; what each cell shows goes, as one token, with the words of the human's message through a transformer
encoder, upon which the decoder writes the reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from parlai.agents.transformer.modules import TransformerEncoder, TransformerGeneratorModel
from parlai.agents.transformer.transformer import TransformerGeneratorAgent
from parlai.core.metrics import AverageMetric
from parlai.core.params import ParlaiParser
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from model_chat.tasks.shapes.scenes import COLOURS, SHAPES


class Eyes(nn.Module):
    """From pixels to what each cell of the grid shows."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()

        def block(inside: int, outside: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)
            )

        self.body = nn.Sequential(
            block(3, channels, 2),
            block(channels, channels * 2, 2),
            block(channels * 2, channels * 3, 1),
            block(channels * 3, channels * 3, 1),
            nn.AdaptiveMaxPool2d(grid),
        )
        # Index 0 of both: nothing has its centre here.
        self.colour = nn.Conv2d(channels * 3, len(COLOURS) + 1, 1)
        self.shape = nn.Conv2d(channels * 3, len(SHAPES) + 1, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Look at pictures.

        Args:
            pixels: batch × 3 × side × side, in -1..1.

        Returns:
            the scores of each cell's colour and of its shape, batch × classes × grid × grid.
        """
        features = self.body(pixels)
        return self.colour(features), self.shape(features)


class EncoderWithImage(TransformerEncoder):
    """A transformer encoder over the words and, where there is a picture, its cells."""

    def forward(self, words: Tensor, cells: Tensor, has_image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            words: batch × length, indices.
            cells: batch × cells × size.
            has_image: batch, booleans.

        Returns:
            batch × (length + cells) × size, and which of them count.
        """
        text, mask = self.forward_embedding(words)
        joint = torch.cat([text, cells.to(text.dtype)], 1)
        mask = torch.cat([mask, has_image.unsqueeze(1).expand(-1, cells.size(1))], 1)
        return self.forward_layers(joint * mask.unsqueeze(-1).type_as(joint), mask), mask


class ImageSeqModel(TransformerGeneratorModel):
    """ParlAI's generator with eyes."""

    def __init__(self, opt: Any, dictionary: Any) -> None:
        super().__init__(opt, dictionary)
        self.encoder = EncoderWithImage(
            opt=opt,
            vocabulary_size=len(dictionary),
            embedding=self.embeddings,
            padding_idx=self.pad_idx,
            reduction_type="none",
        )
        size = opt["embedding_size"]
        self.eyes = Eyes(opt["image_channels"], opt["image_grid"])
        self.eyes_are_fixed = bool(opt.get("freeze_eyes"))
        if self.eyes_are_fixed:
            self.eyes.requires_grad_(False)
        self.place = nn.Parameter(torch.randn(opt["image_grid"] ** 2, size) * 0.1)
        self.nothing = nn.Parameter(torch.randn(size) * 0.1)
        self.whole = nn.Linear(len(COLOURS) + len(SHAPES), size)
        for name, words in (("colour_words", COLOURS), ("shape_words", SHAPES)):
            self.register_buffer(name, torch.tensor([dictionary[word] for word in words]), persistent=False)

    def train(self, mode: bool = True) -> ImageSeqModel:
        """Switch training on or off; eyes that are fixed stay as they are."""
        super().train(mode)
        if self.eyes_are_fixed:
            self.eyes.eval()
        return self

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn pictures into tokens.

        A cell's token is made of the embeddings of the words for what it shows, each as much as it is likely, and of where
        the cell is. So what is learned to be said about a red star is said of a star of any colour, also of one that no
        training picture has, and to name a thing is to copy the word for it.

        Returns:
            tokens (batch × cells + 1 × size; the last is the sum of what is seen, to count with), and what the eyes
            return.
        """
        colour, shape = self.eyes(pixels)
        # The first class of each is "nothing here".
        colours, shapes = (scores.softmax(1).flatten(2).transpose(1, 2) for scores in (colour, shape))
        scale = self.embeddings.weight.size(1) ** 0.5  # as ParlAI's transformer scales its words
        words = colours[..., 1:] @ self.embeddings(self.colour_words) + shapes[..., 1:] @ self.embeddings(
            self.shape_words
        )
        cells = words * scale + shapes[..., :1] * self.nothing + self.place
        whole = self.whole(torch.cat([colours[..., 1:], shapes[..., 1:]], 2).sum(1)).unsqueeze(1)
        return torch.cat([cells, whole], 1), colour, shape


class ImageSeqAgent(TransformerGeneratorAgent):
    """Replies to a message about a picture; without a picture it replies to the words alone.

    While training it learns, beside the replies, to name what has its centre in each cell, where the teacher's acts name it
    in ``things`` (as ``model_chat.tasks.shapes`` does). That is only used to train: a reply is made from the picture.
    """

    @classmethod
    def add_cmdline_args(cls, parser: ParlaiParser, partial_opt: Any = None) -> ParlaiParser:
        """Add the flags of the eyes."""
        super().add_cmdline_args(parser, partial_opt=partial_opt)
        group = parser.add_argument_group("ImageSeq Arguments")
        group.add_argument("--image-side", type=int, default=60, help="pixels a side that pictures are scaled to")
        group.add_argument("--image-grid", type=int, default=3, help="cells a side, each of which becomes one token")
        group.add_argument("--image-channels", type=int, default=16, help="width of the convolutions")
        group.add_argument("--eyes-file", type=str, default=None, help="weights of Eyes for a new model to start with")
        group.add_argument("--freeze-eyes", type="bool", default=False, help="leave the eyes' weights as they are")
        group.add_argument("--naming-loss", type=float, default=1.0, help="weight of naming what each cell shows")
        return parser

    def build_model(self, states: Any = None) -> ImageSeqModel:
        """Return the model, with random weights or, where ``--eyes-file`` names some, with those eyes.

        Raises:
            ValueError: the picture is too small for the grid.
        """
        side, grid = self.opt["image_side"], self.opt["image_grid"]
        if grid < 1 or side < 4 * grid:  # two halvings: a cell needs one pixel at least after them
            raise ValueError(f"--image-side {side}, --image-grid {grid}: give a side of at least 4 pixels a cell.")
        model = ImageSeqModel(self.opt, self.dict)
        if self.opt.get("eyes_file"):
            model.eyes.load_state_dict(torch.load(self.opt["eyes_file"], weights_only=True), strict=True)
        return model

    def _set_text_vec(self, obs: Any, history: Any, truncate: Any) -> Any:
        """Let every message begin with the start token: even an empty one (the model opens) is something to encode."""
        if obs.get("text") is None:
            if obs.get("image") is None:
                return super()._set_text_vec(obs, history, truncate)
            obs.force_set("text", "")
        obs = super()._set_text_vec(obs, history, truncate)
        words = obs.get("text_vec")
        words = torch.LongTensor([]) if words is None else torch.LongTensor(words)
        if not len(words) or words[0] != self.START_IDX:
            obs.force_set("text_vec", torch.cat([torch.LongTensor([self.START_IDX]), words]))
        return obs

    def batchify(self, obs_batch: Any, sort: bool = False) -> Any:
        """Make a batch, with the pictures as pixels and, in training, what each of their cells shows."""
        batch = super().batchify(obs_batch, sort)
        if batch.valid_indices is None or not len(batch.valid_indices):
            return batch
        images = batch.image if batch.image is not None else [None] * len(batch.valid_indices)
        side = self.opt["image_side"]
        pixels = torch.zeros(len(images), 3, side, side)
        for number, image in enumerate(images):
            if image is not None:
                pixels[number] = pixels_of(image, side)
        batch.pixels = pixels
        batch.has_image = torch.tensor([image is not None for image in images])
        batch.things = [observation.get("things") for observation in batch.observations or []]
        if self.use_cuda:
            batch.pixels, batch.has_image = batch.pixels.cuda(), batch.has_image.cuda()
        return batch

    def _model_input(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        if batch.get("pixels") is None:  # a batch of words alone, as ParlAI makes one to reserve memory
            side = self.opt["image_side"]
            batch.pixels = torch.zeros(len(batch.text_vec), 3, side, side, device=batch.text_vec.device)
            batch.has_image = torch.zeros(len(batch.text_vec), dtype=torch.bool, device=batch.text_vec.device)
        batch.seen = self.model.look(batch.pixels)
        return batch.text_vec, batch.seen[0], batch.has_image

    def compute_loss(self, batch: Any, return_output: bool = False) -> Any:
        """Return the loss of the replies, plus that of naming the cells where it is known what they show."""
        loss, output = super().compute_loss(batch, return_output=True)
        if self.opt["naming_loss"] and not self.model.eyes_are_fixed and batch.get("things") and all(batch.things):
            naming = naming_loss(batch.seen[1], batch.seen[2], *cells_of(batch.things, self.opt["image_grid"]))
            self.record_local_metric("naming_loss", AverageMetric.many([float(naming)] * len(batch.things)))
            loss = loss + self.opt["naming_loss"] * naming
        return (loss, output) if return_output else loss


def cells_of(things: Sequence[Sequence[tuple[str, str, float, float]]], grid: int) -> tuple[Tensor, Tensor]:
    """Return what each cell of each picture shows.

    Args:
        things: for each picture its ``(colour, shape, x, y)``, the centre as shares of the side.

    Returns:
        indices of colours and of shapes, batch × grid × grid; 0: nothing has its centre there.
    """
    colours = torch.zeros(len(things), grid, grid, dtype=torch.long)
    shapes = torch.zeros_like(colours)
    names = list(COLOURS)
    for number, seen in enumerate(things):
        for colour, shape, x, y in seen:
            row, column = (min(grid - 1, int(share * grid)) for share in (y, x))
            colours[number, row, column] = 1 + names.index(colour)
            shapes[number, row, column] = 1 + SHAPES.index(shape)
    return colours, shapes


def naming_loss(colour: Tensor, shape: Tensor, colours: Tensor, shapes: Tensor) -> Tensor:
    """Return the cross entropy of naming every cell's colour and shape, as :class:`Eyes` scores them."""
    return functional.cross_entropy(colour, colours.to(colour.device)) + functional.cross_entropy(
        shape, shapes.to(shape.device)
    )


def pixels_of(image: Any, side: int) -> Tensor:
    """Scale a picture to a square of 3 × side × side in -1..1.

    Raises:
        TypeError: it comes as something else than a picture, as the features of another ``--image-mode`` would.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(f"This model looks at pictures (--image-mode raw), but was shown a {type(image).__name__}.")
    small = image.convert("RGB").resize((side, side), Image.Resampling.BOX)
    pixels = torch.from_numpy(np.array(small, dtype=np.float32))
    return pixels.permute(2, 0, 1).div(127.5).sub(1)
