"""A Slurm cluster, imitated: sbatch runs an array's tasks at once, on this machine."""

from __future__ import annotations

import os
from pathlib import Path

SBATCH = """#!/bin/sh
for script; do :; done
copy=$(dirname "$0")/submitted.sh
cp "$script" "$copy"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "${last:-0}"); do
  SLURM_JOB_ID=7$task SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_JOB_NODELIST=node \\
  SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 \\
    sh "$copy" </dev/null >/dev/null 2>&1 &
done
echo "Submitted batch job 7"
"""
# Options come first, and some of them have a value; the command begins with an interpreter.
SRUN = """#!/bin/sh
while :; do
  case "$(basename -- "$1")" in python*) exec "$@" ;; esac
  shift
done
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
"""


def imitate(directory: Path) -> dict[str, str]:
    """The tools, below a directory, and the variables of a user who has them."""
    directory.mkdir()
    for name, script in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (directory / name).write_text(script)
        (directory / name).chmod(0o755)
    return {"PATH": f"{directory}{os.pathsep}{os.environ['PATH']}"}


def submitted(directory: Path) -> list[str]:
    """The options of the last batch."""
    lines = (directory / "submitted.sh").read_text().splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
