"""Collect conversations about images:  python run_image_chat.py [conf=NAME] [flag=value …]"""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # What lies beside this file, or where its user stands, takes the place of no package: a study named model_chat, say.
    sys.path.append(sys.path.pop(0))

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in run.py

from model_chat.launch.task_run import main  # after that

if __name__ == "__main__":
    main(default_conf="example_image_chat")
