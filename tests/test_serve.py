"""The command: what it checks before it listens, what it says, and how it ends."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from lrm_align.config import load, plain
from lrm_align.serve import chosen, main

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = f"--config={ROOT / 'configs' / 'quickstart.py'}"


def refused(capsys, *flags):
    """The one line that the command ends with."""
    with pytest.raises(SystemExit) as stopped:
        main(["serve", CONFIG, *flags])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and lines[-1].startswith("error: ")
    return lines[-1]


def unbuilt():
    raise AssertionError("the guard was built")


GUARDED = ["--defence=safe_think", "--config.guard.factory=tests.test_serve:unbuilt"]


@pytest.mark.parametrize("flags", [[], GUARDED])
def test_a_port_in_use(capsys, flags):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(capsys, f"--port={port}", *flags)
    assert f"port {port} of 127.0.0.1 is in use" in line and "another --port" in line


@pytest.mark.parametrize("key", [" sesame", "sesame\n", "  ", "ses\x1bame"])
def test_a_key_that_no_client_can_send(capsys, monkeypatch, key):
    monkeypatch.setenv("LRM_ALIGN_API_KEY", key)
    assert "LRM_ALIGN_API_KEY" in refused(capsys, "--port=0")


def a_number():
    return 3


def a_fault(chat, guard):
    return 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port=80000"], "65535"),
        (["--port=http"], "--port=http"),
        (["--host=no.such.host.invalid"], "--host=no.such.host.invalid"),
        (["--host=192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["--defence=safe_thinking"], "did you mean lrm_align.defences:safe_think"),
        (["--defence=nowhere:mine"], "no module 'nowhere'"),
        (["--defence=tests.test_serve:a_number"], "is not to be called so"),
        (["--defence=tests.test_serve:a_fault"], "wanted a Defence"),
        (["--defence=safe_think", "--config.defence.args={'early': -1}"], "config.defence.args.early is -1"),
        (["--defence=safe_think"], "guard lab rules does not judge a thought that is still open"),
        (["--config.serve.slots=0"], "slots is 0"),
        (["--config.serve.queue=-1"], "config.serve.queue is -1"),
        (["--config.serve.slot=3"], "did you mean --config.serve.slots"),
        (["--config.model.path=/nowhere"], "/nowhere"),
        (["more"], "unexpected argument 'more'"),
    ],
)
def test_mistakes_end_in_one_line(capsys, flags, said):
    assert said in refused(capsys, *flags)


def test_the_defence_that_is_chosen():
    config = load(str(ROOT / "configs" / "quickstart.py"))
    assert chosen(config, None).factory == ""
    assert chosen(config, "safe_path").factory == "lrm_align.defences:safe_path"
    lab = load(str(ROOT / "configs" / "lab_safethink.py"))
    assert plain(chosen(lab, None)) == plain(lab.defence) == plain(chosen(lab, "safe_think"))
    assert not chosen(lab, "safe_path").args  # those of another defence


def test_dry_run(capsys):
    main(["serve", CONFIG, "--port=0", "--dry_run", "--defence=safe_path"])
    said = capsys.readouterr().out
    assert "would serve lab" in said and "defence safe_path" in said
    main(["serve", CONFIG, "--port=0", "--dry_run", *GUARDED])
    assert "defence safe_think" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["serve", "--help"])
    assert stopped.value.code == 0 and "--defence" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command(tmp_path, end):
    """From the command line to an answer, and back to the prompt."""
    config = f"--config={ROOT / 'configs' / 'lab_safethink.py'}"
    command = [sys.executable, "-m", "lrm_align.serve", config, "--port=0", f"--workdir={tmp_path}"]
    environment = {**os.environ, "LRM_ALIGN_API_KEY": "sesame", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline(), process.stdout.readline()]
        url = lines[1].split()[0]
        body = {"model": "lab", "messages": [{"role": "user", "content": "What is 32+48-39?"}], "temperature": 0}
        headers = {"content-type": "application/json", "authorization": "Bearer sesame"}
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            assert "41" in json.load(response)["choices"][0]["message"]["content"]
        process.send_signal(end)
        last = process.stdout.read().splitlines()[-1]
        assert process.wait(timeout=60) == 0
    assert "defence safe_think" in lines[0] and "LRM_ALIGN_API_KEY" in lines[1]
    assert last.startswith("served 1 samples")
    assert json.loads((tmp_path / "run.json").read_text())["name"] == "lab_safethink"
