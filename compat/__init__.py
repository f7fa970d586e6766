"""The patches that let mephisto 1.1.1 and parlai 1.7.2 run on today's Python and libraries.

PyPI's newest mephisto (December 2022) and parlai (June 2023) do not run beside today's Python, setuptools, numpy, hydra
and websockets. Each patch is one function whose docstring says which version needs it and how to tell that it can go.
Importing this package imports neither mephisto nor parlai: a patch runs when the module that needs it is imported.
"""

from model_chat.compat import for_mephisto as for_mephisto
from model_chat.compat import for_parlai as for_parlai
from model_chat.compat import for_parlai_files as for_parlai_files
from model_chat.compat import imports as imports
from model_chat.compat._hooks import FINDER
from model_chat.compat.terminal import let_any_terminal_be_written_to

FINDER.install()
let_any_terminal_be_written_to()
