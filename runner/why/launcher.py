"""Reads which launcher runs the probes, from the same words as those of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from runner.config import places
from runner.errors import UserError
from runner.sweep.ray import Options

GROUP, SECTION = "hydra/launcher", "hydra.launcher"
LOCAL, RAY = "local", "ray"
TARGET = "_target_"


def chosen(words: Sequence[str]) -> Options | None:
    """Return the settings of the Ray launcher; None for the local one.

    Raises:
        UserError: for another launcher, and for a setting that it does not have.
    """
    name, settings = LOCAL, {}
    for word in words:
        try:
            (parsed,) = OverridesParser.create().parse_overrides([word])
        except OverrideParseException as error:
            raise UserError(f"{word}: {str(error).splitlines()[0]}") from error
        if parsed.key_or_group == GROUP:
            name = str(parsed.value())
        else:
            settings[parsed.key_or_group.removeprefix(f"{SECTION}.")] = parsed.value()
    if name not in (LOCAL, RAY):
        raise UserError(f"{GROUP}={name}: probes run with {LOCAL} or {RAY}")
    if name == LOCAL:
        if settings:
            raise UserError(f"{SECTION}.{next(iter(settings))}: is for {GROUP}={RAY}; add it")
        return None
    return _options(settings)


def _options(settings: Mapping[str, object]) -> Options:
    shipped = OmegaConf.load(places.config_directory() / f"{GROUP}/{RAY}.yaml")
    assert isinstance(shipped, DictConfig)
    shipped.pop(TARGET)
    for key in settings:
        if key not in shipped:
            near = get_close_matches(key, map(str, shipped), 1)
            hint = f"; did you mean {SECTION}.{near[0]}?" if near else ""
            known = ", ".join(map(str, shipped))
            raise UserError(f"{SECTION}.{key}: unknown{hint} (known: {known})")
    try:
        return TypeAdapter(Options).validate_python({**shipped, **settings})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        said = f"{SECTION}.{key}={first['input']}: {first['msg'].lower()}"
        raise UserError(said) from error
