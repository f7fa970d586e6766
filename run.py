"""Collect conversations between workers and models:  python run.py [conf=NAME] [flag=value …]"""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Files beside this one, or in the current folder, must not shadow a package: a study named model_chat, for example.
    sys.path.append(sys.path.pop(0))

# Read when torch is loaded. Its threads would spin while they wait for each other, and take the processor from the server.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from model_chat.launch.task_run import main  # after that

if __name__ == "__main__":
    main(default_conf="example")
