"""python -m runner: one configuration in, one verdict out."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from runner import config as configuration
from runner.errors import UserError
from runner.usage import explain, is_usage_error

USAGE_ERROR, INFRASTRUCTURE, INTERRUPTED = 1, 2, 130
# Mappings that a user fills: a new key in them needs no plus sign.
OPEN_MAPPINGS = re.compile(
    r"(engine\.(extra|env|additional_config)|task\.gen_kwargs"
    r"|model\.(baselines|by_series|ask|chat_template_args))\."
)

_statuses: list[int] = []


@hydra.main(
    config_path=str(configuration.config_directory()), config_name="config", version_base="1.3"
)
def _point(composed: DictConfig) -> None:
    """One run, or one point of a sweep: whatever happens to it stays in it."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    try:
        config = configuration.load(composed)
        from runner.run import run

        status = run(config, OmegaConf.to_yaml(composed, resolve=True), directory)
        _statuses.append(status)
        if status == INTERRUPTED:
            raise KeyboardInterrupt  # the point's bookkeeping is done; no other point starts
    except UserError as error:
        _complain(error)
        _statuses.append(USAGE_ERROR)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _complain(UserError(f"output_dir={directory}: {error.strerror}; the run ends here"))
        else:
            traceback.print_exc()
            from runner.run import record_failure

            with suppress(OSError):
                record_failure(directory, error)
        _statuses.append(INFRASTRUCTURE)
    finally:
        with suppress(OSError):
            directory.rmdir()  # Hydra made it; where nothing was started, nothing is left


def main() -> None:
    """Exit with the verdict: DESIGN's statuses, for a sweep the worst of its points."""
    # Hydra would print our users' mistakes its own way and swallow our tracebacks.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    configuration.register()
    sys.argv[1:] = [_opened(argument) for argument in sys.argv[1:]]
    try:
        _refuse_task_lists(sys.argv[1:])
        _point()
    except UserError as error:
        _complain(error)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit as error:  # argparse ends with 2, which is an engine's failure here
        sys.exit(USAGE_ERROR if error.code == 2 else error.code)
    except Exception as error:
        if is_usage_error(error):
            _complain(UserError(explain(error)))
        elif isinstance(error, OSError):  # Hydra makes the run's directory before it calls us
            _complain(UserError(f"output_dir={error.filename}: not writable ({error.strerror})"))
        else:
            raise
        sys.exit(USAGE_ERROR)
    sys.exit(worst(_statuses))


def worst(statuses: list[int]) -> int:
    """A failed accuracy outweighs a failed engine, that a missing verdict, that a refusal."""
    order = (INTERRUPTED, 3, INFRASTRUCTURE, 4, USAGE_ERROR)
    return next((status for status in order if status in statuses), 0)


def _opened(argument: str) -> str:
    return f"++{argument}" if OPEN_MAPPINGS.match(argument) else argument


def _refuse_task_lists(arguments: list[str]) -> None:
    for argument in arguments:
        if re.match(r"task=\[", argument):
            raise UserError(
                f"{argument}: Hydra would merge the files and keep the last one's tasks; name "
                "several as lm-eval does: task.names=[gsm8k,ceval-valid]"
            )


def _complain(error: UserError) -> None:
    for number, problem in enumerate(error.problems):
        print(f"{'error:' if number == 0 else '      '} {problem}", file=sys.stderr)


if __name__ == "__main__":
    main()
