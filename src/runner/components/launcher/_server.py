"""Imported by the fork server before any job, with Python's collector of garbage aside: the module that it is told, and what jobs need of it.

What is imported is no garbage, and looking for some takes a tenth of the time (torch: 1.27 s with, 1.10 s without); what is frozen the jobs'
collectors pass over, as Python's documentation of gc.freeze advises before a fork.
Where the sweep is killed the server just ends. Taking torch apart takes 0.7 s, in which whoever reads the output would wait.
"""

import atexit
import gc
import importlib
import json
import os
import sys

atexit.register(os._exit, 0)
gc.disable()
module = importlib.import_module(sys.stdin.readline().strip())
if not (needs := sys.stdin.readline()):  # the sweep has ended before it knew
    sys.exit()
module.warm(**json.loads(needs))
gc.freeze()
gc.enable()
