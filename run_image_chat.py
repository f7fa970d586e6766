"""Collect conversations about images:  python run_image_chat.py [conf=NAME] [flag=value …]"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in run.py

from model_chat.task_run import main  # after that

if __name__ == "__main__":
    main(default_conf="example_image_chat")
