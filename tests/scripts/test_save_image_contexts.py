"""The command that saves images for image chat, run on the task that ships and on one with difficult files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import model_chat
from model_chat.errors import ConfigurationError
from model_chat.images.contexts import ImageContexts
from model_chat.scripts import save_image_contexts
from model_chat.scripts.save_image_contexts import main, make_parser
from model_chat.tests import preloaded

TEACHER = '''
import os
from parlai.core.image_featurizers import ImageLoader
from parlai.core.message import Message
from parlai.core.teachers import FixedDialogTeacher


class DefaultTeacher(FixedDialogTeacher):
    """Loads files in ParlAI's background thread, as its image tasks do; two turns an image."""

    def __init__(self, opt, shared=None):
        super().__init__(opt, shared)
        self.loader = ImageLoader(opt)
        self.files = sorted(os.listdir(opt["pictures"]))
        self.folder = opt["pictures"]
        self.id = "difficult"
        self.reset()

    @classmethod
    def add_cmdline_args(cls, parser, partial_opt=None):
        parser.add_argument("--pictures", type=str)
        return parser

    def num_episodes(self):
        return len(self.files)

    def num_examples(self):
        return len(self.files) * 2

    def get(self, episode_idx, entry_idx=0):
        self.data_loader.request_load(
            self.receive_data, self.loader.load, (os.path.join(self.folder, self.files[episode_idx]),)
        )
        return Message(
            text=self.files[episode_idx], labels=["?"], episode_done=entry_idx == 1,
            image=self.data_queue.get(timeout=60), image_id=self.files[episode_idx],
        )


class TextTeacher(FixedDialogTeacher):
    def __init__(self, opt, shared=None):
        super().__init__(opt, shared)
        self.id = "text"
        self.reset()

    def num_episodes(self):
        return 3

    num_examples = num_episodes

    def get(self, episode_idx, entry_idx=0):
        return Message(text="a", labels=["b"], episode_done=True)
'''


def shapes(path: Path, *more: str) -> list[str]:
    return ["--task", "model_chat.tasks.shapes", "--datatype", "test", "--image-context-path", str(path), *more]


@pytest.fixture
def difficult(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sequence[str]]:
    """Arguments for a task whose pictures are all sorts of files."""
    package = tmp_path / "code" / "difficult"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "agents.py").write_text(TEACHER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "code")
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0)
    Image.new("CMYK", (20, 10), (0, 255, 255, 0)).save(folder / "a_cmyk.jpg")
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(folder / "b_sixteen_bit.png")
    turned = Image.Exif()
    turned[0x0112] = 8
    Image.new("RGB", (30, 10), "teal").save(folder / "c_turned.jpg", exif=turned)
    Image.new("P", (5, 5)).save(folder / "d_palette.gif")
    Image.new("RGB", (6000, 4000), "navy").save(folder / "e_large.png")
    whole = folder / "f_truncated.jpg"
    Image.fromarray(noise.integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(whole)
    whole.write_bytes(whole.read_bytes()[:3_000])
    (folder / "g_text.jpg").write_text("no picture", encoding="utf-8")
    Image.new("RGB", (6000, 4000), "navy").save(folder / "h_again.bmp")
    Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(folder / "i_transparent.png")
    yield ["--task", "difficult.agents", "--pictures", str(folder), "--image-context-path", str(tmp_path / "out")]
    for name in [name for name in sys.modules if name.split(".")[0] == "difficult"]:
        del sys.modules[name]


def test_every_argument_of_display_data_is_taken() -> None:
    from parlai.scripts.display_data import setup_args

    theirs = {option for action in setup_args()._actions for option in action.option_strings}
    ours = {option for action in make_parser()._actions for option in action.option_strings}
    assert len(theirs) > 20
    assert ours - theirs == {"--image-context-path", "--image-max-side"}
    assert theirs <= ours


def test_different_images_are_saved_with_their_context(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "images.parquet"
    assert main(shapes(path, "--num-examples", "12")) == 0
    assert f"Saved 12 different images to {path}." in capsys.readouterr().out
    with ImageContexts(path) as images:
        assert len(images) == 12
        assert len({image.context["sha256"] for image in images}) == 12
        third = images[2]
        assert third.open().size == (192, 192)
        assert third.act["image_id"] == third.context["image_id"] == "shapes_test_00002"
        assert third.act["eval_labels"][0].startswith("I see ")
        assert third.context["task"] == "model_chat.tasks.shapes"
        assert third.context["datatype"] == "test"
        assert third.context["example_idx"] == 10, "five turns a picture, of which four are passed over"


def test_the_end_of_the_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "images.parquet"
    assert main(shapes(path, "--num-examples", "1000")) == 0
    assert "Saved 150 different images" in (told := capsys.readouterr().out)
    assert "the data ran out before the 1,000 that --num-examples asks for" in told
    with ImageContexts(path) as images:
        assert len(images) == 150


def test_training_data_is_walked_in_order_and_the_short_name_works(tmp_path: Path) -> None:
    files = []
    for number in range(2):
        path = tmp_path / str(number)
        arguments = ["-t", "shapes", "-dt", "train", "-n", "5", "--image-context-path", str(path)]
        assert main(arguments) == 0
        with ImageContexts(path) as images:
            files.append([image.context["image_id"] for image in images])
    assert files[0] == files[1] == [f"shapes_train_{number:05d}" for number in range(5)]


def test_another_image_mode_saves_the_images_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "images"
    assert main(shapes(path, "-n", "1", "--image-mode", "no_image_model")) == 0
    with ImageContexts(path) as images:
        assert images[0].open().mode == "RGB"


def test_difficult_files_are_handled_or_named_and_skipped(
    difficult: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*difficult, "-n", "20"]) == 0
    captured = capsys.readouterr()
    with ImageContexts(tmp_path / "out") as images:
        found = {image.act["image_id"]: image.open() for image in images}
    assert sorted(found) == [
        "a_cmyk.jpg",
        "b_sixteen_bit.png",
        "c_turned.jpg",
        "d_palette.gif",
        "e_large.png",
        "i_transparent.png",
    ]
    assert found["b_sixteen_bit.png"].getpixel((0, 0)) == (156, 156, 156)
    assert found["c_turned.jpg"].size == (10, 30)
    assert found["e_large.png"].size == (1024, 683)
    assert found["i_transparent.png"].getpixel((0, 0)) == (255, 255, 255)
    said = " ".join(captured.err.split())
    assert said.count("Skipped") == 2, "each once, though an episode shows it twice"
    assert "f_truncated.jpg: OSError" in said
    assert "g_text.jpg: it is no picture in a format" in said
    assert "Skipped 2 images that can't be used" in captured.out
    assert "Passed over 8 repeats" in captured.out  # the second turn of seven pictures, and h_again twice less one


def test_parlais_own_loader_is_back_afterwards(tmp_path: Path) -> None:
    from parlai.core.image_featurizers import ImageLoader

    before = ImageLoader.load
    assert main(shapes(tmp_path / "images", "-n", "1")) == 0
    assert ImageLoader.load is before


def test_a_task_without_images_is_named_and_writes_nothing(
    difficult: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--task", "difficult.agents:TextTeacher", *difficult[4:]]) == 2
    assert "it gave no image" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_arguments_are_all_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--num-examples", "0", "--image-max-side", "-1", "--image-context-path", str(tmp_path / "f")]) == 2
    told = capsys.readouterr().err
    assert "--task: name the ParlAI task" in told
    assert "--num-examples 0: give 1 or more." in told
    assert "--image-max-side -1: give 0" in told


def test_a_loaders_thread_survives_what_it_can_not_read(tmp_path: Path) -> None:
    from parlai.core.image_featurizers import ImageLoader

    loader = ImageLoader({"image_mode": "raw"})
    with save_image_contexts.tolerant_image_loading():
        found = loader.load(str(tmp_path / "gone.jpg"))
        assert isinstance(found, save_image_contexts.Unreadable)
        found = loader.load(str(tmp_path / "gone.zip" / "a.jpg"))
        assert isinstance(found, save_image_contexts.Unreadable)


def test_the_command_runs_as_the_docs_say(tmp_path: Path) -> None:
    root = Path(model_chat.__file__).parent
    done = preloaded.run(
        [sys.executable, "scripts/save_image_contexts.py", *shapes(tmp_path / "images", "-n", "2")],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Saved 2 different images" in done.stdout
    assert "2/2" in done.stderr, "the progress bar"


def test_an_unwritable_path_is_found_before_the_walk(tmp_path: Path) -> None:
    opt = make_parser().parse_args(shapes(tmp_path, "-n", "1"))
    with pytest.raises(ConfigurationError, match="--image-context-path"):
        save_image_contexts.save_image_contexts(opt)
