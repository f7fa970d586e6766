"""Collect conversations between workers and models:  python run.py [conf=NAME] [flag=value …]"""

from model_chat.task_run import main

if __name__ == "__main__":
    main(default_conf="example")
