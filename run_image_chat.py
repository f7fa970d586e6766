"""Collect conversations about images:  python run_image_chat.py [conf=NAME] [flag=value …]"""

from model_chat.task_run import main

if __name__ == "__main__":
    main(default_conf="example_image_chat")
