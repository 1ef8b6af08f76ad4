"""What holds for any input: configuration, fingerprints, statistics, what machines say."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from runner.config.loading import config_directory, load, register
from runner.config.schema import EngineConfig, ParallelismConfig, RunConfig
from runner.config.usage import schema_keys
from runner.errors import UserError
from runner.planning import Facts, make_plan
from runner.platforms import cann, npu_smi
from runner.platforms.base import UNKNOWN
from runner.platforms.places import ROOT_VARIABLE
from runner.stats import drops, flips, resampling, shares
from tests.imitation import imitate, npu_smi_info

# A fixture that is made once and only read may be shared by all examples.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

# Configuration

KEYS = schema_keys(RunConfig)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 1 << 40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["auto", "vllm", "cpu", "ascend", "canary", "sqlite:///x.db", "???", "${x}"]),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    register()
    with hydra.initialize_config_dir(str(config_directory()), version_base="1.3"):
        return hydra.compose("config", ["engine=cpu", "tracking=off"])


@settings(SHARED, max_examples=150)
@given(changes=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3))
def test_any_value_anywhere_is_taken_or_refused_in_words(
    composed: DictConfig, facts: Facts, changes: dict[str, Any]
) -> None:
    changed = copy.deepcopy(composed)
    OmegaConf.set_struct(changed, False)
    try:
        for key, value in changes.items():
            OmegaConf.update(changed, key, value, merge=False, force_add=True)
    except Exception:  # OmegaConf's own refusal, which Hydra makes a message
        return
    try:
        config = load(changed)
    except UserError as error:
        assert all(error.problems)
        assert "Traceback" not in str(error)
    else:
        assert make_plan(config, facts).engine_fingerprint


@settings(SHARED, max_examples=25)
@given(key=st.sampled_from(KEYS), text=st.text(max_size=12))
def test_any_word_on_the_command_line_is_taken_or_refused_in_words(
    compose: Callable[..., RunConfig], key: str, text: str
) -> None:
    try:
        compose(f"{key}={text}")
    except UserError as error:
        assert all(error.problems)


# Fingerprints

EXTRA = st.dictionaries(
    st.sampled_from(["max_num_seqs", "seed_offset", "kv", "block"]),
    st.sampled_from([8, "fp8", None, {"a": 2}, {"a": 3}, [4, 5]]),
    max_size=2,
)
ENGINES = st.fixed_dictionaries(
    {
        "max_model_len": st.sampled_from([None, 512, 1024]),
        "dtype": st.sampled_from(["auto", "float16"]),
        "enforce_eager": st.booleans(),
        "gpu_memory_utilization": st.sampled_from([0.5, 0.9]),
        "seed": st.sampled_from([7, 9]),
        "env": st.dictionaries(st.sampled_from(["A", "B"]), st.sampled_from(["1", "2"])),
        "extra": EXTRA,
    }
)


def fingerprint(config: RunConfig, facts: Facts, engine: dict[str, Any], tp: int = 2) -> str:
    wanted = replace(
        config,
        engine=EngineConfig(platform="cuda", quantization=None, **engine),
        parallelism=ParallelismConfig(tp=tp, pp=1, dp=1, ep=False),
    )
    return make_plan(wanted, facts).engine_fingerprint


@SHARED
@given(one=ENGINES, other=ENGINES, tp=st.sampled_from([2, 4]))
def test_engines_are_the_same_exactly_where_they_were_asked_the_same(
    config: RunConfig, facts: Facts, one: dict[str, Any], other: dict[str, Any], tp: int
) -> None:
    same = fingerprint(config, facts, one) == fingerprint(config, facts, other, tp)
    assert same is ((one, 2) == (other, tp))


def backwards(value: Any) -> Any:
    """The same content, every mapping's keys in the opposite order."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return value


@SHARED
@given(engine=ENGINES, place=st.text("abc/", min_size=1, max_size=8))
def test_neither_order_nor_place_is_in_a_fingerprint(
    config: RunConfig, facts: Facts, engine: dict[str, Any], place: str
) -> None:
    moved = replace(config, model=replace(config.model, pretrained=f"/elsewhere/{place}"))
    assert fingerprint(config, facts, engine) == fingerprint(moved, facts, backwards(engine))


# Statistics

COUNTS = st.integers(0, 60)


@given(worse=COUNTS, better=COUNTS, more=st.integers(1, 60))
def test_flips_are_symmetric_bounded_and_worse_for_more(worse: int, better: int, more: int) -> None:
    n = worse + better + more + 1
    assert flips.mcnemar(worse, better) == flips.mcnemar(better, worse)
    assert 0 < flips.mcnemar_drop(worse, better) <= 1
    assert flips.mcnemar_drop(worse + more, better) <= flips.mcnemar_drop(worse, better)
    upper = flips.upper_drop(worse, better, n)
    assert (worse - better) / n <= upper <= 1
    assert upper <= flips.upper_drop(worse + 1, better, n) + 1e-9
    stderr, (low, high) = flips.matched_proportions(worse, better, n)
    mirrored, (lowest, highest) = flips.matched_proportions(better, worse, n)
    assert stderr == pytest.approx(mirrored)
    assert (low, high) == pytest.approx((-highest, -lowest))
    assert -1 <= low <= high <= 1


@given(n=st.integers(1, 3000), share=st.floats(0, 1))
def test_bounds_of_a_share_hold_it_mirror_each_other_and_grow_with_it(n: int, share: float) -> None:
    right = round(share * n)
    low, high = shares.lower_bound(right, n), shares.upper_bound(right, n)
    assert 0 <= low <= right / n <= high <= 1
    assert low == pytest.approx(1 - shares.upper_bound(n - right, n), abs=1e-9)
    if right < n:
        assert low <= shares.lower_bound(right + 1, n)
        assert high <= shares.upper_bound(right + 1, n)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.5, 1.0]), min_size=1, max_size=10))
def test_signs_have_no_side_of_their_own(differences: list[float]) -> None:
    turned = [-each for each in differences]
    assert resampling.sign_flip(differences) == resampling.sign_flip(turned)
    one, other = resampling.sign_flip_drop(differences), resampling.sign_flip_drop(turned)
    assert 0 < one <= 1
    assert one + other >= 1  # the tie counts on both sides


@given(
    # A narrower margin asks for hundreds of thousands of samples, and each is counted exactly.
    changed=COUNTS,
    n=st.integers(60, 3000),
    margin=st.floats(0.03, 0.2),
)
def test_a_wider_margin_needs_no_more_samples(changed: int, n: int, margin: float) -> None:
    found = drops.of_flips(changed, 0, n)
    for count in (found.to_pass, found.to_fail):
        narrow, wide = count(margin), count(1.5 * margin)
        assert narrow is not None and wide is not None
        # Both are exact to one part in a thousand.
        assert n < wide <= narrow * 1.002 + 1


# What machines say of themselves

TABLES = [npu_smi_info("A2", 4, busy=[1]), npu_smi_info("A3", 4), npu_smi_info("310P", 2)]


@given(table=st.sampled_from(TABLES), data=st.data())
def test_a_table_that_has_lost_lines_shows_no_device_that_was_not_there(
    table: str, data: st.DataObject
) -> None:
    lines = table.splitlines()
    lost = data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=12))
    whole = npu_smi.parse(table).chips
    left = npu_smi.parse("\n".join(x for n, x in enumerate(lines) if n not in lost)).chips
    assert len(left) <= len(whole)
    assert {chip.npu for chip in left} <= {chip.npu for chip in whole}
    assert {chip.name for chip in left} <= {chip.name for chip in whole}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Path]:
    """The root of a machine whose version files a test writes over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(imitate(tmp_path, "A2").root))
        patch.delenv("ASCEND_HOME_PATH", raising=False)
        yield tmp_path / "machine"


@SHARED
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_a_version_file_may_hold_anything(machine: Path, content: bytes) -> None:
    for file in machine.rglob("*.info"):
        file.write_bytes(content)
    for found in (cann.cann(), cann.driver(), cann.firmware()):
        assert found.version == UNKNOWN or found.version in content.decode(errors="replace")
        assert found.version.strip() == found.version != ""


@SHARED
@given(data=st.data())
def test_a_damaged_version_file_gives_its_version_or_none(
    machine: Path, data: st.DataObject
) -> None:
    (file,) = machine.rglob("ascend_toolkit_install.info")
    lines = [
        "package_name=Ascend-cann-toolkit",
        "innerversion=V100R001C29SPC002B310",
        "compatible_version=[V100R001C15]",
        "version=9.1.0",
        "arch=aarch64",
        "\x00",
        "=====",
        " version = 8",
    ]
    file.write_text("\n".join(data.draw(st.lists(st.sampled_from(lines)))))
    assert cann.cann().version in ("9.1.0", UNKNOWN)
