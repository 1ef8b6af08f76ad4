"""python -m runner.prepare: fetch weights and data sets for an offline machine."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from runner.config import loading
from runner.config.composition import compose
from runner.config.schema import RunConfig
from runner.errors import UserError
from runner.hub_ids import is_path
from runner.hubs import huggingface, modelscope
from runner.inputs import manifest
from runner.messages import complain
from runner.prepare.fetching import (
    Wanted,
    begun,
    fetch,
    locked,
    plan,
    refuse_full_disk,
    refuse_links,
    refuse_strangers,
)
from runner.status import INTERRUPTED, USAGE_ERROR

DEFAULT = "prepared"
HELP = """\
Fetches the weights and data sets of a run into a directory, on a machine with network access:

  python -m runner.prepare model=qwen3_8b task=gsm8k source.dir=DIR

It takes the same settings as `python -m runner`. Copy DIR to the offline machine and run there:

  python -m runner model=qwen3_8b task=gsm8k source=local source.dir=DIR

  source.dir=DIR              target directory; existing files are kept (default: ./prepared)
  source=modelscope           fetch the weights from ModelScope instead of the model's own hub
  source.weights=local        fetch only the data sets; source.data=local: only the weights
  HF_ENDPOINT, HF_TOKEN       environment variables: a mirror of the hub; a token for gated models

Exit status: 0 complete · 1 incomplete (run the same command again to resume) · 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Fetch weights and data sets; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m runner.prepare",
        description=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--config-dir", metavar="DIR", help="a directory with your own configuration files"
    )
    try:
        given = parser.parse_intermixed_args(arguments)
    except SystemExit as error:
        return USAGE_ERROR if error.code else 0
    try:
        prepare(composed(given.overrides, given.config_dir))
    except UserError as error:
        complain(error)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    return 0


def composed(overrides: list[str], config_dir: str | None) -> RunConfig:
    """Return the configuration that `python -m runner` would run with these overrides.

    Raises:
        UserError: as there.
    """
    kept = [each for each in overrides if not each.startswith("tracking")]
    return loading.load(compose([*kept, "tracking=off"], config_dir))


def prepare(config: RunConfig) -> None:
    """Fetch the configuration's repositories one by one.

    Raises:
        UserError: if something cannot be fetched; what was fetched before stays.
    """
    directory = Path(config.source.dir or DEFAULT).expanduser()
    _refuse(config)
    wanted = _models(config)
    tasks, data = _data_sets(config)
    wanted += data
    if not wanted:
        print("nothing to fetch: model and data sets are local directories")
        return
    planned = [plan(each) for each in wanted]
    with locked(directory):
        listed = manifest.read(directory) or begun()
        refuse_links(directory, planned, listed)
        refuse_strangers(directory, planned, listed)
        refuse_full_disk(directory, planned)
        for each in planned:
            listed = fetch(directory, each, listed)
        listed = replace(listed, tasks={**listed.tasks, **tasks})
        manifest.write(directory, listed)
    size = sum(repository.size for repository in listed.repositories)
    print(f"{directory}: {size / 1e9:.1f} GB in {len(listed.repositories)} repositories. Copy it")
    print("to the other machine and add to the run's command:  source=local source.dir=DIR")


def _refuse(config: RunConfig) -> None:
    problems = []
    if (config.source.weights, config.source.data) == ("local", "local"):
        problems.append(
            "source=local: nothing would be fetched; omit it here and set it for the run"
        )
    if huggingface.offline():
        problems.append(
            "HF_HUB_OFFLINE=1: prepare needs the hub; unset it, or use a machine with network "
            "access"
        )
    if "modelscope" in (config.source.weights, config.source.data) and not modelscope.installed():
        problems.append(
            f"source=modelscope: the ModelScope client is not installed: {modelscope.INSTALL}"
        )
    if problems:
        raise UserError(*problems)


def _models(config: RunConfig) -> list[Wanted]:
    model, hub = config.model, config.source.weights
    if hub == "local":
        return []
    wanted = []
    names = {"model.pretrained": model.pretrained, "model.tokenizer": model.tokenizer}
    for key, name in names.items():
        if name is None or (key == "model.tokenizer" and name == model.pretrained):
            continue
        if is_path(name):
            if not Path(name).expanduser().is_dir():
                raise UserError(
                    f"{key}={name}: no such directory (a hub id has the form owner/name)"
                )
            print(f"{key}={name}: a local directory, not fetched")
            continue
        main_one = key == "model.pretrained"
        elsewhere = model.modelscope if hub == "modelscope" and main_one else None
        revision = model.revision if main_one else None
        wanted.append(Wanted(elsewhere or name, name, "model", hub, revision, key))
    return wanted


def _data_sets(config: RunConfig) -> tuple[dict[str, tuple[str, ...]], list[Wanted]]:
    task, hub = config.task, config.source.data
    if hub == "local":
        return {}, []
    if task.data_dir is not None:
        print(f"task.data_dir={task.data_dir}: a local directory, not fetched")
        return {}, []
    print("reading lm-eval's tasks …", flush=True)
    from runner.lm.dataset_ids import data_sets

    found = data_sets(task.names, task.include_path)
    revisions = {each: revision for ids in found.values() for each, revision in ids.items()}
    wanted = [
        Wanted(each, each, "dataset", hub, revisions[each], "task.names (data set)")
        for each in sorted(revisions)
    ]
    return {name: tuple(sorted(ids)) for name, ids in found.items()}, wanted


if __name__ == "__main__":
    sys.exit(main())
