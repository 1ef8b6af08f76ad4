"""python -m runner: one configuration in, one verdict out."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from runner import language
from runner.attempt import attempt
from runner.config import command_line, loading, places
from runner.config.composed import composed_point, composed_run
from runner.config.model_choice import refuse_other_weights
from runner.config.overrides import written
from runner.config.usage import explain, is_usage_error
from runner.errors import FULL, UserError, cause
from runner.messages import complain
from runner.rundir import remove_empty
from runner.status import INFRASTRUCTURE, INTERRUPTED, USAGE_ERROR, worst
from runner.suite.entries import is_suite
from runner.sweep import launcher, lock, record, search
from runner.sweep.callback import leave_no_run_directory, started_sweep
from runner.sweep.record import PointRecord

_statuses: list[int] = []


@hydra.main(
    config_path=str(loading.config_directory()), config_name=places.CONFIG_NAME, version_base="1.3"
)
def _run(composed: DictConfig) -> float | None:
    """One run; or one point of a sweep, where the launcher is not one of ours."""
    hydra_config = HydraConfig.get()
    directory = Path(hydra_config.runtime.output_dir)
    sweep = Path(hydra_config.sweep.dir) if hydra_config.mode is RunMode.MULTIRUN else None
    number = int(hydra_config.job.num) if sweep is not None else 0
    overrides = tuple(written(hydra_config.overrides.task))

    def action() -> int:
        refuse_other_weights(hydra_config)
        config = loading.load(composed)
        language.use(config.lang)
        if sweep is None:
            from runner.run import run

            return run(config, composed_run(composed, hydra_config), directory)
        from runner.sweep.job import run_point

        search.check(hydra_config.sweeper, config)
        asked = composed_point(composed, hydra_config, overrides)
        return run_point(sweep, PointRecord(number, overrides), config, asked)

    try:
        status, problems = attempt(action, directory)
    finally:
        if sweep is None:
            remove_empty(directory)
    if sweep is not None:
        record.write_point(sweep, PointRecord(number, overrides, status, problems))
        if status == INTERRUPTED:
            raise KeyboardInterrupt  # no other point starts
        objective = str(composed.objective)
        return search.infeasible(objective) if problems else search.number(objective, directory)
    _statuses.append(status)
    return None


def main() -> None:
    """Exit with the verdict: DESIGN's statuses, for a sweep the worst of its points.

    For a suite, the worst of its required entries.
    """
    # Hydra would print our users' mistakes its own way and swallow our tracebacks.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    loading.register()
    try:
        sys.argv[1:] = command_line.read(sys.argv[1:])
        _run()
    except UserError as error:
        complain(error)
        _statuses.append(USAGE_ERROR)
    except KeyboardInterrupt:
        _statuses.append(INTERRUPTED)
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at its end
        _statuses.append(INFRASTRUCTURE)
    except SystemExit as error:  # argparse ends with 2, which is an engine's failure here
        sys.exit(USAGE_ERROR if error.code == 2 else error.code)
    except Exception as error:
        if is_usage_error(error):
            complain(UserError(explain(error)))
            _statuses.append(USAGE_ERROR)
            leave_no_run_directory()
        elif isinstance(error, OSError):  # Hydra makes the run's directory before it calls us
            complain(UserError(_not_written(error)))
            _statuses.append(INFRASTRUCTURE if error.errno in FULL else USAGE_ERROR)
        else:  # ours; or a job of Slurm's was killed, and what the other points found still counts
            traceback.print_exc()
            _statuses.append(INFRASTRUCTURE)
    sys.exit(worst([*_statuses, *launcher.statuses, *_finish_sweep()]))


def _finish_sweep() -> list[int]:
    """Compare what the points found, also after an interruption; their exit statuses.

    A suite is judged instead, and has one exit status.
    """
    sweep = started_sweep()
    try:
        found = record.read(sweep) if sweep is not None else None
    except UserError as error:
        complain(error)
        return [INFRASTRUCTURE]
    if sweep is not None and found is None:
        lock.leave(sweep)
    if sweep is None or found is None:
        return []
    from runner.report.terminal import console

    # Of a suite, only its own judgement counts: the entries include advisory ones.
    points = [] if is_suite(sweep) else found.points
    statuses = [point.status for point in points if point.status is not None]
    try:
        if is_suite(sweep):
            from runner.suite.finish import finish as finish_suite

            status = finish_suite(sweep, console())
            _notify(sweep)
            return [status]
        from runner.sweep.finish import finish

        finish(sweep, console())
    except OSError as error:
        what = "result" if is_suite(sweep) else "comparison"
        complain(UserError(f"{sweep}: the {what} was not written: {cause(error)}"))
        return [*statuses, INFRASTRUCTURE]
    except Exception:  # ours; what the points found stands in their own directories
        traceback.print_exc()
        return [*statuses, INFRASTRUCTURE]
    return statuses


def _notify(suite: Path) -> None:
    """Whoever is not told of a night does not change what it found."""
    from runner.report.terminal import console
    from runner.suite.notification import notify

    try:
        notify(suite, console())
    except (UserError, OSError) as error:
        complain(UserError(f"{suite}: nobody was notified: {error}"))
    except Exception:
        traceback.print_exc()


def _not_written(error: OSError) -> str:
    sweep = started_sweep()
    key = "output_dir" if sweep is None else "hydra.sweep.dir"
    return f"{key}={error.filename or sweep}: not writable ({error.strerror})"


if __name__ == "__main__":
    main()
