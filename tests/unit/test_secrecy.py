"""No secret is in what is recorded: refused, left out or blotted out."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from runner import secrecy
from runner.environment import telling_variables
from runner.secrecy.names import is_secrets
from runner.secrecy.values import secrets_in
from runner.tracking.tracked import ui_command
from tests.secret_names import NAMES
from tests.unit.test_cli import command, environment

TOKEN = "canary-1f6c0e8b"
# Code that comes as data is run by none of these, which ruff does not know (or not yet).
UNSAFE = re.compile(
    r"allow_pickle|pickle[.;]|import \w*pickle|shelve|\bdill\b"
    r"|torch\.load\(|np\.load\(|joblib\.load"
)
# NumPy reads only numbers and text this way.
SAFE = re.compile(r"np\.(load\(\w+|save\(\w+, \w+), allow_pickle=False\)")


@pytest.mark.parametrize("name", NAMES)
def test_a_secrets_name_is_known(name: str) -> None:
    assert secrecy.held({name: TOKEN}) == {TOKEN: name}
    (problem,) = secrecy.problems({"engine": {"env": {name: TOKEN}}}, {})
    assert problem.startswith(f"engine.env.{name}: looks like a secret")
    (problem,) = secrecy.argument_problems([f"engine.env={{{name}: {TOKEN}}}"], {})
    assert TOKEN not in problem


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer",
        "tokenizer_mode",
        "TOKENIZERS_PARALLELISM",
        "max_tokens",
        "max_num_batched_tokens",
        "maxtokens",
        "think_end_token",
        "eos_token",
        "skip_special_tokens",
        "key_value",
        "num_key_value_heads",
        "sort_key",
        "monkey",
        "keyboard",
        "PWD",
        "OLDPWD",
        "SSH_ASKPASS",
        "SSH_AUTH_SOCK",
        "HF_TOKEN_PATH",
        "AWS_SHARED_CREDENTIALS_FILE",
        "mask",
        "task",
        "disk",
        "TASK_QUEUE_ENABLE",
        "pass_config",
        "bypass",
        "compass",
        "auth_type",
        "author",
        "token_count",
        "patience",
        "VLLM_MAX_TOKENS_PER_EXPERT_FUSED_MOE_CHUNK",
        "path",
        "dispatch",
    ],
)
def test_another_name_is_none_of_a_secret(name: str) -> None:
    assert not is_secrets(name)
    assert secrecy.problems({"engine": {"extra": {name: "a value of it"}}}, {}) == []


@pytest.mark.parametrize(
    "value",
    [
        "hf_" + "aB3" * 12,
        "ms-01234567-89ab-cdef-0123-456789abcdef",
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1B" * 12,
        "glpat-" + "x" * 20,
        "sk-proj-" + "a1" * 12,
        "AKIA" + "A1" * 8,
        "xoxb-123456789012-abcdef",
        "https://hooks.slack.com/services/T000/B000/XXXX",
        "https://open.feishu.cn/open-apis/bot/v2/hook/0123-abcd",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----MIIE",
        "Bearer abcdefghijkl",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + "a1+/" * 10,
        "http://host:5000/?token=short",
        "https://host/path?x=1&access_token=abc#top",
        "https://oapi.dingtalk.com/robot/send?access_token=abc",
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=0123-abcd",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=abcdef&X-Amz-Date=1",
    ],
)
def test_a_secret_is_known_by_its_shape_or_place(value: str) -> None:
    (problem,) = secrecy.problems({"engine": {"extra": {"option": value}}}, {})
    assert problem.startswith("engine.extra.option: contains credentials")
    (problem,) = secrecy.argument_problems([f"tracking.uri={value}"], {})
    assert "MLFLOW_TRACKING_TOKEN" in problem
    begin, end = next(secrets_in(value))
    hidden = value[begin:end]
    assert hidden not in problem
    line = f"could not reach {value} in time"
    assert hidden not in secrecy.blotted(line)
    assert len(secrecy.blotted(line)) == len(line)


def test_an_address_keeps_what_is_no_secret() -> None:
    address = "https://me:pass@host:5000/a?token=abc&n=1&max_tokens=5"
    assert secrecy.shown_address(address) == "https://host:5000/a?token=***&n=1&max_tokens=5"
    plain = "postgresql://team@host/db?sslmode=require&connect_timeout=5"
    assert secrecy.problems({"tracking": {"uri": plain}}, {}) == []


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "HF_ENDPOINT", "PIP_INDEX_URL"])
def test_a_secret_in_an_address_is_known(name: str) -> None:
    variables = {name: f"https://somebody:{TOKEN}@host.example.org:8080/path"}
    assert secrecy.held(variables) == {TOKEN: name}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("engine.env.PROXY", f"http://me:{TOKEN}@proxy:3128"),
        ("engine.env.HARMLESS", TOKEN),
        ("engine.extra.option", f"prefix {TOKEN} suffix"),
        ("task.system_instruction", f"The password is {TOKEN}."),
        ("tracking.uri", f"https://{TOKEN}@mlflow.example.org"),
        ("tracking.uri", f"postgresql://me:{TOKEN}@host/db"),
    ],
)
def test_what_holds_a_secret_is_refused_and_not_repeated(key: str, value: str) -> None:
    nested: object = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    assert isinstance(nested, dict)
    variables = {"HF_TOKEN": TOKEN}
    for found in (
        secrecy.problems(nested, variables),
        secrecy.argument_problems([f"++{key}={value}"], variables),
    ):
        (problem,) = found
        assert problem.startswith(f"{key}: ")
        assert TOKEN not in problem


def test_what_is_no_secret_passes() -> None:
    content = {
        "model": {"think_end_token": "</think>", "pretrained": "org/model@v1"},
        "tracking": {"uri": "sqlite:////home/me@work/mlflow.db"},
        "engine": {"extra": {"tokenizer_mode": "auto", "max_num_batched_tokens": 64, "port": 1}},
        "task": {"names": ["https://example.org/a@b", "team@host"], "include_path": __file__},
    }
    variables = {
        "CI_TOKEN": "auto",
        "HF_TOKEN": "",
        "DB": "postgresql://team@host/db",
        "SSH": "ssh://org/model@v1@host",
        "AWS_SHARED_CREDENTIALS_FILE": __file__,
    }
    assert secrecy.problems(content, variables) == []
    assert secrecy.problems({"tracking": {"uri": variables["DB"]}}, variables) == []


def test_a_variable_that_holds_a_secret_is_not_recorded() -> None:
    variables = {
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": f"https://me:{TOKEN}@hub.example.org",
        "VLLM_ODD": f"x{TOKEN}",
        "VLLM_API_KEY": TOKEN,
        "VLLM_RAY_PASS": "short",
        "HCCL_SERVER": "http://host/?token=short",
        "VLLM_DISABLE_COMPILE_PASS": "1",
        "OMP_NUM_THREADS": "2",
    }
    assert telling_variables(variables) == {
        "HCCL_SERVER": "http://host/?token=*****",
        "HF_ENDPOINT": "https://hub.example.org",
        "VLLM_DISABLE_COMPILE_PASS": "1",
        "OMP_NUM_THREADS": "2",
    }


def test_a_log_is_blotted_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    log = tmp_path / "engine.log"
    with log.open("ab", buffering=0) as writing:
        writing.write(f"hf_token='{TOKEN}' and {TOKEN}".encode())
        secrecy.blot(log)
        writing.write(b"\nmore")
    stars = "*" * len(TOKEN)
    assert log.read_text() == f"hf_token='{stars}' and {stars}\nmore"
    assert secrecy.blotted(f"<{TOKEN}>") == f"<{stars}>"
    secrecy.blot(tmp_path / "none")


def test_a_command_line_with_a_secret_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        command("--multirun", f"engine.env.HF_TOKEN={TOKEN},other", "hydra.sweep.dir=sweep"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: engine.env.HF_TOKEN: looks like a secret")
    assert TOKEN not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_is_loaded_can_run() -> None:
    root = Path(__file__).parents[2]
    found = [
        f"{file.relative_to(root)}: {line.strip()}"
        for folder in ("runner", "hydra_plugins", "benchmarks")
        for file in (root / folder).rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if UNSAFE.search(SAFE.sub("", line))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "safe"),
    [
        ("with np.load(file, allow_pickle=False) as stored:", True),
        ("np.save(file, values, allow_pickle=False)", True),
        ("np.load(file)", False),
        ("np.load(file, allow_pickle=True)", False),
        ("np.load(file, allow_pickle=allowed)", False),
        ("np.load(file, allow_pickle=False), pickle.load(file)", False),
    ],
)
def test_arrays_are_loaded_in_the_safe_form_alone(line: str, safe: bool) -> None:
    assert (UNSAFE.search(SAFE.sub("", line)) is None) == safe


def test_the_pages_that_we_start_listen_on_this_machine_alone() -> None:
    root = Path(__file__).parents[2]
    made = subprocess.run(
        ["make", "-n", "ui", "PORT=1"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "mlflow ui" in made.stdout and "--host 127.0.0.1" in made.stdout
    assert ui_command("sqlite:///x.db").endswith(" --host 127.0.0.1")
