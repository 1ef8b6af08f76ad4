"""The origin of each baseline in a composed configuration: the command line or a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from runner.config.overrides import written

COMMAND_LINE = "given on the command line"


def baseline_origins() -> dict[str, str]:
    """`model.baselines.TASK.METRIC.FILTER` → origin, of the configuration that Hydra composed last.

    A model file is quoted by its `hardware` and `source`, else named by its path: a file that takes
    another one's defaults and sets baselines of its own does not inherit their provenance. Empty
    where Hydra composed nothing.
    """
    if not (GlobalHydra.instance().is_initialized() and HydraConfig.initialized()):
        return {}
    found: dict[str, str] = {}
    for path, content in _files(*_choices()):
        _take(found, content, path, "{}")
    _take(found, _overrides(), COMMAND_LINE, f"{COMMAND_LINE} ({{}})")
    return found


def _take(found: dict[str, str], content: Mapping[str, Any], origin: str, quoted: str) -> None:
    """Note what the content sets: baselines, whose origin is `quoted` where it states one; or a
    provenance alone, which then is that of the baselines before it."""
    model = content.get("model") or {}
    places: dict[str, Any] = {"model.baselines": model}
    for series, known in (model.get("by_series") or {}).items():
        places[f"model.by_series.{series}.baselines"] = known or {}
    for above, known in places.items():
        stated = "; ".join(str(known[key]) for key in ("hardware", "source") if known.get(key))
        own = [
            f"{above}.{task}.{metric}.{name}"
            for task, metrics in (known.get("baselines") or {}).items()
            for metric, filters in metrics.items()
            for name in filters
        ]
        before = [key for key in found if key.startswith(f"{above}.")]
        if own:
            found.update(dict.fromkeys(own, quoted.replace("{}", stated) if stated else origin))
        elif stated:
            found.update(dict.fromkeys(before, stated))


def _choices() -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """What decides which files are composed: the chosen group files, and where they are sought."""
    chosen = {str(group): str(name) for group, name in HydraConfig.get().runtime.choices.items()}
    sources = GlobalHydra.instance().config_loader().get_sources()
    places = [*(source.full_path() for source in sources), *HydraConfig.get().searchpath]
    return tuple(sorted(chosen.items())), tuple(map(str, places))


@lru_cache(maxsize=16)  # the points of a sweep have most choices in common
def _files(
    choices: tuple[tuple[str, str], ...], places: tuple[str, ...]
) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Path and content of each composed file that may say something of the model, in order."""
    loader: Any = GlobalHydra.instance().config_loader()
    composed = HydraConfig.get()
    name, overrides = (
        composed.job.config_name,
        [*written(composed.overrides.hydra), *written(composed.overrides.task)],
    )
    listed = loader.compute_defaults_list(name, overrides, RunMode.RUN)
    # Hydra has no public way to the files of hydra.searchpath.
    _, files = loader._parse_overrides_and_create_caching_repo(name, overrides)
    found = []
    for each in listed.defaults:
        if each.config_path is None or each.package not in ("", None, "model"):
            continue
        file = files.load_config(each.config_path)
        content = _plain(file.config)
        if each.package == "model":
            content = {"model": content}
        path = f"{file.path.removeprefix('file://')}/{each.config_path}.yaml"
        found.append((path, content))
    return tuple(found)


def _overrides() -> dict[str, Any]:
    """What the command line says of the model, as a file would."""
    together = OmegaConf.create()
    given = OverridesParser.create().parse_overrides(written(HydraConfig.get().overrides.task))
    for override in given:
        if override.key_or_group.startswith("model.") and not override.is_delete():
            OmegaConf.update(together, override.key_or_group, override.value(), force_add=True)
    return _plain(together)


def _plain(config: Any) -> dict[str, Any]:
    found = OmegaConf.to_container(config, resolve=False)
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
