"""Whether a name is that of a secret, by the words that it is made of."""

from __future__ import annotations

import re
from itertools import pairwise

# HF_TOKEN, hfToken and HFToken are made of two words each, KEY2 of a word and a number.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Secrets wherever they stand in a name, and at the end of words that are written as one (MYTOKEN).
PLAIN = (
    "secret", "password", "passwd", "passphrase", "passcode", "credential", "webhook",
    "apikey", "accesskey", "secretkey", "privatekey",
)  # fmt: skip
ANYWHERE = (*PLAIN, "creds", "pwd", "authorization", "dsn")
# Secrets at a name's end alone, unless the word before says that they are something else.
AT_THE_END = {
    "token": (
        "max", "min", "num", "n", "of", "per", "total", "batched", "scheduled", "new", "input",
        "output", "prompt", "generated", "completion", "reasoning", "prefill", "decode", "cached",
        "special", "extra", "added", "eos", "bos", "pad", "unk", "sep", "cls", "mask", "think",
        "end", "start", "stop", "begin", "first", "last", "next", "image", "img", "video", "audio",
        "draft", "spec", "speculative", "placeholder", "queued", "suppress", "assistant",
    ),
    "key": (
        "public", "sort", "primary", "foreign", "cache", "partition", "group", "index", "query",
        "by", "match", "label", "column", "field",
    ),
    "pass": ("forward", "backward", "single", "multi", "fusion", "compile", "compiler"),
    "ak": (), "sk": (), "pat": (), "auth": (), "sas": (), "bearer": (), "cookie": (),
}  # fmt: skip
# Two words that are a secret together, whatever follows.
PAIRS = (
    ("api", "key"), ("access", "key"), ("secret", "key"), ("private", "key"), ("account", "key"),
    ("ssh", "key"), ("connection", "string"), ("conn", "str"), ("auth", "token"),
)  # fmt: skip
# Run together with a last word that other words end in as well (compass, monkey).
TOGETHER = re.compile(r"(db|pg|sql|mysql|redis|mongo|smtp|ftp|ssh|user|root|admin)pass|\w{2,}pwd")
# A name with such an end says where a secret is, or of which kind.
ABOUT = ("file", "path", "dir", "directory", "name", "type", "kind", "helper", "provider", "env")
# The shell's own: where it is, and was.
SHELLS = ("PWD", "OLDPWD")


def is_secrets(name: str) -> bool:
    """Whether a variable, key or parameter of this name holds a secret."""
    words = [word.lower() for word in WORD.findall(name)]
    while words and (words[-1].isdigit() or words[-1] == "id"):
        words.pop()
    if not words or name in SHELLS or words[-1] in ABOUT:
        return False
    if any(_is_plain(word) for word in words) or any(pair in PAIRS for pair in pairwise(words)):
        return True
    last = words[-1]
    for secret, others in AT_THE_END.items():
        if last in (secret, f"{secret}s"):
            return len(words) == 1 or words[-2] not in others
        if secret == "token" and last.rstrip("s").endswith(secret):
            return last.rstrip("s").removesuffix(secret) not in others
    return TOGETHER.fullmatch(last) is not None


def _is_plain(word: str) -> bool:
    single = word.removesuffix("s")
    return word in ANYWHERE or single in ANYWHERE or single.endswith(PLAIN)
