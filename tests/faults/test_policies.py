"""A policy is complete or not there, and nobody reads one of something else."""

import errno
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import jax
import ml_dtypes
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file

from lrm_align.errors import UserError
from lrm_align.models import lora
from lrm_align.rl import policies, sealed
from tests.rl.apart import ABOUT, LIKE, params


def data(directory, number=0):
    """The file of the weights of a policy."""
    (path,) = [path for path in directory.iterdir() if path.name.startswith(f"policy-{number:08d}")]
    return path


def test_what_was_published_is_read(shared):
    assert policies.newest(shared) is None
    for number in range(3):
        policies.publish(shared, number, params(number), ABOUT)
    assert policies.newest(shared) == 2
    for number in range(3):
        jax.tree.map(np.testing.assert_array_equal, policies.read(shared, number, LIKE, ABOUT), params(number))


def test_adapters_alone_are_published_in_their_dtype(tmp_path):
    frozen = {"embed": np.zeros(3, np.float32), "layers": {name: np.zeros((2, 8, 6), np.float32) for name in "qk"}}
    adapters = {"q": {"a": np.full((2, 8, 3), 0.1, ml_dtypes.bfloat16), "b": np.ones((2, 3, 6), ml_dtypes.bfloat16)}}
    found = policies.trainable(lora.attach(frozen, adapters, 2.0))
    assert jax.tree.structure(found) == jax.tree.structure(adapters)
    policies.publish(tmp_path, 7, found, ABOUT)
    read = policies.read(tmp_path, 7, adapters, ABOUT)
    jax.tree.map(np.testing.assert_array_equal, read, adapters)
    assert read["q"]["a"].dtype == ml_dtypes.bfloat16
    assert policies.trainable(frozen) is frozen


@pytest.mark.parametrize("part", sorted(ABOUT))
def test_a_policy_of_something_else_is_refused_by_hash(shared, part):
    policies.publish(shared, 0, params(0), ABOUT)
    other = {**ABOUT, part: "other"}
    message = rf"00000000\.json: of another {part}: its {part} is {ABOUT[part]}, this job's is other"
    with pytest.raises(UserError, match=message) as error:
        policies.read(shared, 0, LIKE, other)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=message):
        policies.publish(shared, 0, params(0), other)


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_without_a_whole_manifest_there_is_no_policy(shared, cut):
    policies.publish(shared, 0, params(0), ABOUT)
    policies.publish(shared, 1, params(1), ABOUT)
    manifest = shared / sealed.name(1)
    manifest.write_bytes(manifest.read_bytes()[:cut])
    assert policies.newest(shared) == 0
    with pytest.raises(policies.GoneError):
        policies.read(shared, 1, LIKE, ABOUT)
    policies.publish(shared, 1, params(1), ABOUT)  # the trainer comes back
    jax.tree.map(np.testing.assert_array_equal, policies.read(shared, 1, LIKE, ABOUT), params(1))


def test_a_file_without_a_manifest_is_no_policy(shared):
    policies.publish(shared, 0, params(0), ABOUT)
    (shared / sealed.name(0)).unlink()
    data(shared).write_bytes(b"half")
    assert policies.newest(shared) is None
    policies.publish(shared, 0, params(0), ABOUT)
    assert policies.read(shared, 0, LIKE, ABOUT)["embed"].tolist() == [0, 1, 2, 3]


DAMAGE = {
    "truncated": (lambda raw: raw[:-3], "truncated or foreign"),
    "empty": (lambda raw: b"", "truncated or foreign"),
    "flipped": (lambda raw: raw[:-5] + bytes([raw[-5] ^ 4]) + raw[-4:], "damaged or foreign"),
    "longer": (lambda raw: raw + b"x", "truncated or foreign"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_and_refused_and_published_anew(shared, damage):
    change, message = DAMAGE[damage]
    policies.publish(shared, 0, params(0), ABOUT)
    path = data(shared)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path.name}: {message}"):
        policies.read(shared, 0, LIKE, ABOUT)
    said = []
    policies.publish(shared, 0, params(0), ABOUT, log=said.append)
    assert path.name in said[0] and "anew" in said[0]
    assert policies.read(shared, 0, LIKE, ABOUT)["embed"].tolist() == [0, 1, 2, 3]


def test_missing_data_is_told_from_a_removed_policy(shared):
    policies.publish(shared, 0, params(0), ABOUT)
    data(shared).unlink()
    with pytest.raises(UserError, match="data is missing"):
        policies.read(shared, 0, LIKE, ABOUT)


def test_what_is_there_stays_for_samplers_may_have_used_it(shared):
    policies.publish(shared, 0, params(0), ABOUT)
    before = data(shared).read_bytes()
    policies.publish(shared, 0, params(1), ABOUT)
    assert data(shared).read_bytes() == before


def test_old_policies_go(shared):
    shared.mkdir()
    (shared / "policy-00000000-0123456789ab.safetensors").write_bytes(b"left by a kill")
    for number in range(6):
        policies.publish(shared, number, params(number), ABOUT, keep=2)
    assert sorted(path.name for path in shared.iterdir()) == sorted(
        [sealed.name(4), sealed.name(5), data(shared, 4).name, data(shared, 5).name]
    )
    with pytest.raises(policies.GoneError):
        policies.read(shared, 3, LIKE, ABOUT)


@pytest.mark.parametrize("other", [{"layers": {"q": np.zeros((2, 4), np.float32)}}, {"embed": np.zeros(4, np.int8)}])
def test_another_tuning_is_refused_by_shape(shared, other):
    policies.publish(shared, 0, params(0), ABOUT)
    with pytest.raises(UserError, match="another tuning"):
        policies.read(shared, 0, {**LIKE, **other}, ABOUT)


def test_a_manifest_cannot_lead_out_of_its_directory(shared):
    policies.publish(shared, 0, params(0), ABOUT)
    fields = sealed.read(shared / sealed.name(0), policies.KIND)
    (shared / sealed.name(0)).unlink()
    sealed.create(shared / sealed.name(0), policies.KIND, {**fields, "data": "../../secret"})
    with pytest.raises(UserError, match="contradict"):
        policies.read(shared, 0, LIKE, ABOUT)


def test_the_file_is_plain_safetensors(tmp_path):
    policies.publish(tmp_path, 0, params(3), ABOUT)
    found = load_file(data(tmp_path))
    assert sorted(found) == ["embed", "layers.q"] and (found["layers.q"] == 3).all()


GARBAGE = {
    "not JSON": b"{]}\n",
    "another object": b'{"kind": "lrm_align.order/1"}\n',
    "a list": b"[{}\n",
    "a number": b'{"policy": 1}\n',
    "binary": b"\xff\xfe}\n",
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_whole_object_of_garbage_is_named_and_refused(shared, garbage):
    shared.mkdir()
    place = shared / "00000003.json"
    place.write_bytes(GARBAGE[garbage])
    with pytest.raises(UserError, match=r"00000003\.json: damaged"):
        sealed.read(place, "example/1")
    with pytest.raises(UserError, match=r"00000003\.json: damaged"):
        sealed.create(place, "example/1", {})


def test_objects_are_created_once(shared):
    place = shared / "00000000.json"
    sealed.create(place, "example/1", {"a": 1})
    with pytest.raises(sealed.TakenError):
        sealed.create(place, "example/1", {"a": 2})
    assert sealed.read(place, "example/1") == {"a": 1}
    with pytest.raises(UserError, match="not a example/2"):
        sealed.read(place, "example/2")
    text = place.read_bytes().decode()
    place.write_bytes(text.replace('"a": 1', '"a": 2').encode())
    with pytest.raises(UserError, match="own checksum"):
        sealed.read(place, "example/1")
    assert json.loads(text)["seal"] and [p.name for p in shared.iterdir() if re.match(r"\.", p.name)] == []


def test_two_that_create_at_once_do_not_both_succeed(tmp_path):
    def attempt(job):
        try:
            sealed.create(epath.Path(tmp_path) / "00000000.json", "example/1", {"job": job})
        except sealed.TakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(40))) == 1


@pytest.mark.parametrize("where", ["write", "mkdir"])
def test_a_full_disk_ends_the_trainer_in_one_line(tmp_path, monkeypatch, where):
    def no_space(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shared = epath.Path(tmp_path)
    monkeypatch.setattr(
        *((policies.safetensors_io, "write") if where == "write" else (type(shared), "mkdir")), no_space
    )
    with pytest.raises(UserError, match=r"cannot write policy 0 in .*: No space left on device"):
        policies.publish(shared, 0, params(0), ABOUT)
    monkeypatch.undo()
    assert policies.newest(shared) is None
