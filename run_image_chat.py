"""Collect conversations about images:  python run_image_chat.py [conf=NAME] [flag=value …]"""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Files beside this one, or in the current folder, must not shadow a package: a study named model_chat, for example.
    sys.path.append(sys.path.pop(0))

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in run.py

from model_chat.launch.task_run import main  # after that

if __name__ == "__main__":
    main(default_conf="example_image_chat")
