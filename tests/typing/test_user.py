"""What an editor says about a user's code: no error in correct code, and the arguments of a function of a policy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
USER = Path(__file__).with_name("user.py")


class Editor:
    """A client of pyright's language server, as editors have one."""

    def __init__(self, server: subprocess.Popen[bytes]):
        self.server, self.asked = server, 0
        folder = {"uri": REPOSITORY.as_uri(), "name": "gaussjax"}
        able = {"workspace": {"configuration": True}, "textDocument": {"hover": {"contentFormat": ["markdown"]}}}
        self.ask("initialize", processId=None, rootUri=folder["uri"], capabilities=able, workspaceFolders=[folder])
        self.send("initialized", params={})

    def send(self, method: str | None = None, **message: Any) -> None:
        named = {"jsonrpc": "2.0", **({"method": method} if method else {}), **message}
        text = json.dumps(named).encode()
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(text) + text)
        self.server.stdin.flush()

    def received(self) -> Iterator[dict[str, Any]]:
        """Messages of the server; its question for the settings is answered with this Python."""
        while True:
            headers = iter(self.server.stdout.readline, b"\r\n")
            length = next(int(line.split(b":")[1]) for line in [*headers] if line.startswith(b"Content-Length"))
            message = json.loads(self.server.stdout.read(length))
            if "method" in message and "id" in message:
                items = message["params"].get("items", [])
                self.send(id=message["id"], result=[{"pythonPath": sys.executable} for _ in items])
            else:
                yield message

    def ask(self, method: str, **params: Any) -> Any:
        self.asked += 1
        self.send(method, id=self.asked, params=params)
        return next(message["result"] for message in self.received() if message.get("id") == self.asked)

    def open(self, path: Path, text: str) -> list[str]:
        """Texts of the errors and warnings in a file with this content."""
        document = {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": text}
        self.send("textDocument/didOpen", params={"textDocument": document})
        found = (message["params"] for message in self.received() if message.get("method", "").endswith("Diagnostics"))
        answer = next(params for params in found if params["uri"] == path.as_uri())
        return [problem["message"] for problem in answer["diagnostics"] if problem["severity"] <= 2]

    def hover(self, path: Path, words: str) -> str:
        """Text that an editor shows beside the last of the words."""
        before = path.read_text(encoding="utf-8").partition(words)[0] + words[:-1]
        place = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2])}
        return self.ask("textDocument/hover", textDocument={"uri": path.as_uri()}, position=place)["contents"]["value"]


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    command = [Path(sys.executable).with_name("pyright-langserver"), "--stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        yield Editor(server)
        server.terminate()


# Correct words, words with a mistake, and what pyright says about it.
MISTAKES = [
    ("deterministic=False", "determinstic=False", 'No parameter named "determinstic"'),
    ("loaded.params, loaded.normalizer)", ")", 'Argument missing for parameter "params"'),
    ('make_vector("Pendulum-v1", 4)', 'make_vector("Pendulum-v1", "4")', '"Literal[\'4\']" is not assignable to "int"'),
]


def test_strict_pyright_finds_every_mistake_and_nothing_in_correct_code(editor):
    text = USER.read_text(encoding="utf-8")
    assert editor.open(USER, text) == []
    for right, mistake, _ in MISTAKES:
        text = text.replace(right, mistake)
    found = editor.open(USER.with_name("wrong.py"), text)
    assert [message for _, _, message in MISTAKES if message not in "\n".join(found)] == [], found


# Words of user.py, and words that the editor shows beside the last of them.
HOVERS = {
    "policy.init": ("key", "consumed"),
    "policy.act": ("params", "observations", "`(…, obs)`", "`(…, act)`", "deterministic", "consumed", "nats"),
    "policy.evaluate": ("raw_actions", "taken_actions", "`(…, act)`", "nats"),
    "policy.apply": ("carry", "resets"),
    "policy.noise": ("float32",),
    "policy.entropy": ("nats", "reduction"),
    "policy.log_std": ("log standard deviation", "`(…, act)`"),
    "policy.initial_carry": ("num_envs",),
    "policy.distribution": ("outputs",),
    "loaded.act": ("observations", "key"),
    "gaussjax.serve": ("normalizer", "Raises"),
    "act = gaussjax.serve": ("deterministic",),
    "ppo.make": ("environments", "Returns"),
}


@pytest.mark.parametrize("words", HOVERS)
def test_an_editor_shows_the_arguments_and_the_shapes(editor, words):
    editor.open(USER, USER.read_text(encoding="utf-8"))
    shown = editor.hover(USER, words).replace("&nbsp;", " ").replace("\\_", "_")
    assert [expected for expected in HOVERS[words] if expected not in shown] == [], shown
