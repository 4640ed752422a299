#!/bin/sh
# Learns the seccomp profile of an LLM service on this host's GPU and measures what that costs; `run.sh --help` has
# the options. Needs Python 3.10 with PyTorch (PYTHON names another than `python3`), and nothing from the network.
set -eu
here=$(dirname "$0")
exec "${PYTHON:-python3}" -B "$here/kit.py" "$@"
