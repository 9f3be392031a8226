"""What a user may ask of RL that can not be done: one line, exit 2, before anything slow."""

import pathlib

import pytest

from lrm_align.main import main

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("config", ["lab_arithmetic.py", "lab_rapo.py"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("rl.samples=1", "rl.samples is 1; it must be an integer, at least 2"),
        ("rl.sampling.max_length=16", "prompt longer than the context"),
    ],
)
def test_groups_of_one_and_prompts_longer_than_the_context(tmp_path, capsys, config, change, says):
    with pytest.raises(SystemExit) as end:
        main(["main", f"--config={ROOT}/configs/{config}", f"--config.{change}", f"--workdir={tmp_path}"])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2 and error.startswith("error: ") and says in error
    assert not any(path.is_dir() for path in tmp_path.iterdir())


@pytest.mark.parametrize("truncation", ["top_p=0.9", "top_k=20", "min_p=0.1"])
def test_ratios_against_a_sampler_that_leaves_tokens_out(tmp_path, capsys, truncation):
    with pytest.raises(SystemExit) as end:
        main(
            [
                "main",
                f"--config={ROOT}/configs/lab_rapo.py",
                f"--config.rl.sampling.{truncation}",
                f"--workdir={tmp_path}",
            ]
        )
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert end.value.code == 2 and f"drawn with {truncation.replace('=', ' = ')}: ratios would be taken" in error
    assert not any(path.is_dir() for path in tmp_path.iterdir())
