"""A mistake in a fork's function ends in one line that names the function and what was expected."""

import pathlib

import pytest
from ml_collections import ConfigDict

from lrm_align import advantages, config, objectives
from lrm_align.errors import UserError
from lrm_align.main import main
from lrm_align.objectives.preflight import check_objective
from lrm_align.recipes import filtering, selection
from lrm_align.training.scores import KNOWN

ROOT = pathlib.Path(__file__).parents[2]
HEAD = """
import jax.numpy as jnp
from lrm_align.objectives import Objective, preference, sft, token_mean, where
LOGP = frozenset({"logp"})
def mine(loss, needs=LOGP, normalizers=sft().normalizers, statistics=None):
    return Objective(needs, normalizers, loss, statistics)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a fork's module and returns its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def module(code: str) -> str:
        name = f"fork_{abs(hash(code))}"
        (tmp_path / f"{name}.py").write_text(f"{HEAD}\ndef factory(scale: float = 1.0):\n    {code}\n")
        return name

    return module


def sums(of: str) -> str:
    """A loss of this sum."""
    return f"return mine(lambda scores, batch, normalizers: (jnp.sum({of}) / normalizers['tokens'], {{}}))"


LOSSES = {
    "a number instead of an objective": ("return 3.0", "returned a float; wanted .*Objective"),
    "a loss instead of an objective": (
        "return lambda scores, batch, normalizers: (0.0, {})",
        "returned a function; wanted .*Objective",
    ),
    "a score that nobody computes": (
        "return token_mean('x', frozenset({'logps'}), lambda s: s['logps'])",
        r"needs the scores logps; there are .*logp, reference.logp",
    ),
    "a score that it did not declare": (
        sums("scores['logp'] + scores['entropy']"),
        r"reads 'entropy', which is neither a score that it declares \(needs: logp\) .* \(step, tokens\)",
    ),
    "a score that a token mean did not declare": (
        "return token_mean('x', LOGP, lambda s: s['logp'] - s['reference.logp'])",
        "reads 'reference.logp'",
    ),
    "a normalizer that it did not give": (
        "return mine(lambda scores, batch, n: (jnp.sum(scores['logp']) / n['tokns'], {}))",
        r"reads 'tokns'.*\(step, tokens\)",
    ),
    "a loss of tokens": (
        "return mine(lambda scores, batch, n: (scores['logp'], {}))",
        r"its loss has the shape \(2, 8\); wanted a scalar",
    ),
    "an integer loss": (
        "return mine(lambda scores, batch, n: (jnp.sum(batch.tokens_BxT), {}))",
        "its loss is int32; wanted floating point",
    ),
    "no metrics": ("return mine(lambda scores, batch, n: jnp.sum(scores['logp']))", r"wanted \(loss, metrics\)"),
    "metrics without weights": (
        "return mine(lambda scores, batch, n: (jnp.sum(scores['logp']), {'x': jnp.sum(scores['logp'])}))",
        r"its metric 'x' is an array of shape \(\); wanted \(sum, weight\)",
    ),
    "metrics of tokens": (
        "return mine(lambda scores, batch, n: (jnp.sum(scores['logp']), {'x': (scores['logp'], 1.0)}))",
        r"its metric 'x' is shapes \(2, 8\), \(\); wanted \(sum, weight\)",
    ),
    "a list of metrics": (
        "return mine(lambda scores, batch, n: (jnp.sum(scores['logp']), [1.0]))",
        r"its metrics are a list; wanted \{name: \(sum, weight\)\}",
    ),
    "normalizers that are a number": (
        "return mine(lambda scores, batch, n: (0.0, {}), normalizers=lambda batch: 1.0)",
        r"its normalizers returned a float; wanted \{name: scalar\}",
    ),
    "a column that the data do not have": ("return preference()", "batch has no pair_BxS"),
    "a tag that the data do not have": ("return where('rude', sft())", "their tag names are: harmful, benign"),
    "a misspelt column": (sums("batch.loss_mask_BxS"), "fails at line .*fork_.*no attribute 'loss_mask_BxS'"),
    "a misspelt name": (sums("scores['logp'] * scal"), "fails at line .*NameError: name 'scal'"),
    "shapes that do not fit": (sums("scores['logp'] * jnp.ones(3)"), "fails at line .*ncompatible shapes"),
    "a branch on a value": (sums("scores['logp'] if scores['logp'].sum() > 0 else 0"), "fails at line .*Tracer"),
    "other arguments": (
        "return mine(lambda scores, batch: (jnp.sum(scores['logp']), {}))",
        "fails: TypeError: .*positional arguments",
    ),
}


@pytest.mark.parametrize("mistake", LOSSES)
def test_losses(mistake, write):
    code, says = LOSSES[mistake]
    path = f"{write(code)}:factory"
    objective = config.build(path, {})
    with pytest.raises(UserError, match=says) as found:
        check_objective(path, objective, KNOWN, tag_names=("harmful", "benign"))
    if "data do not have" not in mistake:
        assert str(found.value).startswith(path)
    assert "\n" not in str(found.value)


def test_a_mistake_of_ours_keeps_its_traceback():
    broken = objectives.token_mean("x", frozenset({"logp"}), lambda scores: scores["entropy"])
    with pytest.raises(KeyError):
        check_objective("lrm_align.objectives:broken", broken, KNOWN)


ADVANTAGES = {
    "a mean of the group": ("return lambda a, group: a.mean(axis=1)", r"its transform gave the shape \(2,\)"),
    "a number": ("return 1.0", "returned float 1.0; wanted a function"),
    "other arguments": ("return lambda a: a", "fails: TypeError: .*positional argument"),
    "a misspelt column": ("return lambda a, group: a * group.lengths_GxN", "fails at line .*'lengths_GxN'"),
    "a column that is not there": ("return lambda a, group: a - group.kl_GxN", "fails at line .*NoneType"),
    "a branch on a value": ("return lambda a, group: a if a.sum() > 0 else -a", "fails at line .*Tracer"),
    "a wrong shape in a chain": (
        "from lrm_align.advantages import chain, group_center\n"
        "    return chain(group_center(), lambda a, group: a[:, :1])",
        r"transform 2 \(fork_.*lambda.*\) gave the shape \(2, 1\); wanted .*\(2, 4\)",
    ),
}


@pytest.mark.parametrize("mistake", ADVANTAGES)
def test_advantages(mistake, write):
    code, says = ADVANTAGES[mistake]
    path = f"{write(code)}:factory"
    transform = config.build(path, {})
    with pytest.raises(UserError, match=says) as found:
        advantages.check_transform(path, transform)
    assert "fork_" in str(found.value) and "\n" not in str(found.value)


def test_rules_of_a_filter(write):
    settings = ConfigDict({"factory": f"{write('return 3')}:factory", "args": {}})
    with pytest.raises(UserError, match=r"fork_.* returned a int; wanted a function"):
        selection.rule(settings)
    settings.factory = f"{write('return lambda traces: []')}:factory"
    with pytest.raises(UserError, match=r"fork_.* cannot be called"):
        selection.rule(settings)
    with pytest.raises(UserError, match=r"mine:rule: its rule gave a list of 1; wanted a list of one .* each of 2"):
        filtering.check_verdicts("mine:rule", [filtering.Verdict(filtering.KEEP)], 2)
    with pytest.raises(UserError, match="mine:rule: its rule gave a str, 'keep'; wanted"):
        filtering.check_verdicts("mine:rule", ["keep"], 1)


CALLS = {
    "no module": ("nowhere_at_all:factory", {}, "no module 'nowhere_at_all'"),
    "no such name": ("{name}:factry", {}, "did you mean {name}:factory"),
    "another argument": (
        "{name}:factory",
        {"scal": 2.0},
        "unexpected keyword argument 'scal'; its arguments are .*scale",
    ),
    "a value, not a factory": ("{name}:LOGP", {}, "is a frozenset; a config names a factory"),
}


@pytest.mark.parametrize("mistake", CALLS)
def test_factories(mistake, write):
    path, arguments, says = CALLS[mistake]
    name = write("return sft()")
    with pytest.raises(UserError, match=says.format(name=name)):
        config.build(path.format(name=name), arguments)


def test_the_command_ends_before_anything_slow(write, tmp_path, capsys):
    """The whole way: the config's import path, the recipe's preflight, one line, status 2, nothing written."""
    name = write(LOSSES["a score that it did not declare"][0])
    more = [f"--config.train.objective={name}:factory", "--config.train.objective_args={}"]
    workdir = tmp_path / "run"
    with pytest.raises(SystemExit) as exit_:
        main(["main", f"--config={ROOT / 'configs' / 'quickstart.py'}", f"--workdir={workdir}", *more])
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.startswith(f"error: {name}:factory reads 'entropy'") and error.count("\n") == 1
    assert not list(workdir.glob("*/*"))
