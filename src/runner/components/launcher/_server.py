"""Imported last by the fork server: at its end it just ends. Taking torch apart takes 0.7 s, in which whoever reads the sweep's output would wait."""

import atexit
import os

atexit.register(os._exit, 0)
