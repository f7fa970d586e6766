"""Collect conversations between workers and models:  python run.py [conf=NAME] [flag=value …]"""

import os

# Read when torch is loaded. Its threads would spin while they wait for each other, and take the processor from the server.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from model_chat.task_run import main  # after that

if __name__ == "__main__":
    main(default_conf="example")
