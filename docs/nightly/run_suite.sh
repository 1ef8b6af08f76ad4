#!/bin/sh
# One night of a suite: check the machine, run the suite, update reference runs, publish the pages. Ends with the
# suite's exit status. The jobs in this directory call it; arguments are passed to the runner, for example
# --config-dir conf for a suite in conf/suite/.
#
# SUITE      name of the suite (default: release_a2)
# NIGHTS     persistent directory for all nights (default: suites)
# PUBLISH    directory for the pages of this night, replaced each time (default: none)
# FOLLOW     1: after good nights, reference runs are updated (default: 0)
# PYTHON     interpreter (default: python3)
# MLFLOW_TRACKING_URI, and the webhooks of suite.notify, are read by the runner.
set -u
suite=${SUITE:-release_a2}
nights=${NIGHTS:-suites}
python=${PYTHON:-python3}
night=$nights/$suite/$(date +%Y-%m-%d)/$(date +%H-%M-%S)

if [ -n "${PUBLISH:-}" ]; then
  if [ -d "$PUBLISH" ] && [ ! -f "$PUBLISH/suite.json" ] && [ -n "$(ls -A "$PUBLISH")" ]; then
    echo "PUBLISH=$PUBLISH: has other files, so the pages will not be published; name another directory" >&2
    PUBLISH=
  else
    rm -rf "$PUBLISH"  # the pages of last night are not tonight's, whatever happens now
  fi
fi
"$python" -m runner.doctor || echo "runner.doctor found problems; the suite shows which entries are affected" >&2
"$python" -m runner "suite=$suite" "hydra.sweep.dir=$night" "$@"
status=$?

# Runs that the MLflow server could not take, and nights that were killed.
if [ -d "$nights/$suite" ]; then
  "$python" -m runner.sync "$nights/$suite" || echo "not everything is in MLflow yet" >&2
fi
if [ "${FOLLOW:-0}" = 1 ] && [ "$status" -eq 0 ]; then
  "$python" -m runner.promote --auto "$night" || echo "the reference runs were not updated" >&2
fi
if [ -n "${PUBLISH:-}" ] && [ -f "$night/index.html" ]; then
  mkdir -p "$PUBLISH" && cp -R "$night/." "$PUBLISH" ||
    echo "PUBLISH=$PUBLISH: the pages were not published" >&2
fi
exit "$status"
