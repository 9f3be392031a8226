"""A page of what is no run, or of a damaged one: one line, exit status 2, nothing half written."""

import json

import pytest
from etils import epath

from lrm_align import report as reports
from tests.pages import made


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        reports.main(["report", *map(str, arguments)])
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and said.count("\n") == 1, said
    return said


def test_what_is_no_run(tmp_path, capsys):
    assert "no such directory" in refused(capsys, tmp_path / "nowhere")
    assert "has no report.json" in refused(capsys, tmp_path)
    assert "WORKDIR" in refused(capsys)
    assert "--traces is -1" in refused(capsys, tmp_path, "--traces=-1")
    assert "--traces" in refused(capsys, tmp_path, "--traces=many")


@pytest.mark.parametrize(
    "text, says", [("[1, 2]", "holds a list"), ("{", "is not JSON"), ("[" * 100_000, "is not JSON")]
)
def test_a_damaged_report(tmp_path, capsys, text, says):
    made.finished(tmp_path / "run")
    (tmp_path / "run" / "report.json").write_text(text)
    assert says in refused(capsys, tmp_path / "run")


def test_one_run_twice(tmp_path, capsys):
    made.finished(tmp_path / "run")
    assert "named twice" in refused(capsys, tmp_path / "run", tmp_path / "run")


def test_a_damaged_shard_is_named(tmp_path, capsys):
    made.finished(tmp_path / "run")
    (data,) = (tmp_path / "run" / f"before-{made.FINGERPRINT}" / "attack").glob("*.array_record")
    data.write_bytes(data.read_bytes()[:-7])
    assert data.name in refused(capsys, tmp_path / "run")
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_damaged_tokenizer_is_named(tmp_path, capsys):
    made.finished(tmp_path / "run")
    (tmp_path / "run" / f"export-{made.FINGERPRINT}" / "model" / "tokenizer.json").write_text("{}")
    assert "is not a tokenizer" in refused(capsys, tmp_path / "run")


def test_verdicts_that_a_kill_cut_are_no_fault(tmp_path):
    made.finished(tmp_path / "run")
    file = tmp_path / "run" / f"before-{made.FINGERPRINT}" / "attack.verdicts.jsonl"
    file.write_text(file.read_text() + '{"id": "p')
    (tmp_path / "run" / f"after-{made.FINGERPRINT}" / "finished.json").write_text('{"st')
    assert reports.write(
        epath.Path(tmp_path / "run"), json.loads((tmp_path / "run" / "report.json").read_text())
    ).exists()
