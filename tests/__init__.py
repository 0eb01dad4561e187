"""Tests, benchmarks, and the programs that write parts of the pages."""

import os

# Thousands of commands would draw figures; the tests of these ask for them.
os.environ["RUNNER_REPORT"] = "false"
