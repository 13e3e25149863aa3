"""Ten thousand requests that nobody would send on purpose, through the real server's socket.

None may be answered 5xx, hang, end the server's process, or leave memory behind. Each run sends the same requests.
KENNEL_FUZZ_INPUTS=1000000 sends more of them, and KENNEL_FUZZ_SEED=7 others.
"""

import json
import os
import random

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.files import SIDE, damage, real_files

pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # of how it tells of a failure

INPUTS = int(os.environ.get("KENNEL_FUZZ_INPUTS", "10000"))
SEED = int(os.environ.get("KENNEL_FUZZ_SEED", "0"))
TOGETHER = 25  # inputs that hypothesis makes at once: they travel side by side
GROWTH = 150 * 2**20  # bytes; threads keep some of what the largest request took

DAMAGED = {"jpeg": 0.2, "png": 0.16, "webp": 0.1, "others": 0.1, "npy": 0.08, "json": 0.08, "jsonlines": 0.06}
FILES = real_files()
TYPES = [content_type for content_type, _ in FILES.values()]
ACCEPTS = ["application/json", "application/json;verbose", "application/jsonlines", "text/csv", "application/x-npy"]


def made(share):
    """Let hypothesis make a share of the inputs."""

    def wrap(test):
        test = settings(
            max_examples=max(1, round(share * INPUTS / TOGETHER)),
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(test)
        return seed(SEED)(test)

    return wrap


def several(strategy):
    return st.lists(strategy, min_size=TOGETHER, max_size=TOGETHER)


@pytest.fixture(scope="module", autouse=True)
def server_is_as_it_was(target):
    """Compare the server before and after all tests of this file, once it has seen the worst of each kind."""
    chance = random.Random("before")
    for content_type, files in FILES.values():
        target.ask_all([(damage(chance.choice(files), chance), {"Content-Type": content_type}) for _ in range(60)])
    before, processes = target.memory()
    yield
    after, now = target.memory()
    assert now == processes
    assert target.server.ping().status == 200
    assert after - before < GROWTH
    assert "Traceback" not in target.server.box.log


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_answered(target, kind):
    content_type, files = FILES[kind]
    chance = random.Random(f"{kind} {SEED}")
    count = round(DAMAGED[kind] * INPUTS)
    accepts = [chance.choice(ACCEPTS) for _ in range(count)]
    bodies = [damage(chance.choice(files), chance) for _ in range(count)]
    statuses = target.ask_all(
        [(body, {"Content-Type": content_type, "Accept": accept}) for body, accept in zip(bodies, accepts, strict=True)]
    )
    assert set(statuses) <= {200, 400, 422}
    assert len(set(statuses)) > 1  # it is damage, and not all of it is fatal


numbers = st.one_of(
    st.integers(), st.integers(10**300, 10**400), st.floats(), st.sampled_from([0, 1e400, -1e39, 2**63])
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["instances", "b64", "url", ""]), inner, max_size=3),
    ),
    max_leaves=12,
)
entries = st.fixed_dictionaries({"b64": st.one_of(st.text(max_size=40), st.binary(max_size=40).map(bytes.hex), values)})
bodies = st.one_of(
    values.map(json.dumps),
    st.fixed_dictionaries({"instances": st.one_of(st.lists(st.one_of(entries, values), max_size=4), values)}).map(
        json.dumps
    ),
    st.builds(
        lambda opening, count: opening * count,
        st.sampled_from(["[", '{"a":', "[[],", "1", '"', "-"]),
        st.integers(1, 20_000),
    ),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


@made(0.06)
@given(several(bodies))
def test_json_of_any_shape_is_answered(target, inputs):
    target.ask_all([(body, {"Content-Type": "application/json"}) for body in inputs])


@made(0.02)
@given(several(st.lists(st.one_of(bodies, st.binary(max_size=50)), max_size=5).map(b"\n".join)))
def test_lines_of_any_shape_are_answered(target, inputs):
    target.ask_all([(body, {"Content-Type": "application/jsonlines"}) for body in inputs])


dtypes = st.one_of(
    st.sampled_from(["<f4", ">f8", "|u1", "|b1", "<c8", "|O", "|V8", "<U4", "|S3", "<M8[s]", "<f16", "<f2", "(2,)<f4"]),
    st.text("<>|fOVU0123456789,()[]'", max_size=8),
).map(repr)
records = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["<f4", "|O", "<i8"])), min_size=1, max_size=3)
sides = st.one_of(st.sampled_from([0, 1, 3, SIDE, -1, 2**31, 2**63, 2**64, 10**20]), st.integers())
headers = st.builds(
    lambda dtype, order, shape: f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}",
    st.one_of(dtypes, records.map(repr)),
    st.sampled_from(["False", "True", "None", "0"]),
    st.one_of(st.lists(sides, max_size=5).map(tuple), st.just((3, SIDE, SIDE)), st.text("(),0123", max_size=12)),
)


DATA = {"whole": bytes(3 * SIDE * SIDE * 4), "pickle": b"\x80\x04\x95" + bytes(20)}


def npy_file(version, header, data, claimed):
    text = header.encode("latin-1", "replace") + b"\n"
    length = len(text) if claimed is None else claimed
    width = 2 if version[0] == 1 else 4
    return b"\x93NUMPY" + bytes(version) + (length % 256**width).to_bytes(width, "little") + text + DATA.get(data, data)


tensors = st.builds(
    npy_file,
    st.sampled_from([(1, 0), (2, 0), (3, 0), (1, 0), (9, 9)]),
    st.one_of(headers, st.text("{}'()[],: abc0123\\#\n", max_size=60)),
    st.one_of(st.binary(max_size=64), st.sampled_from(["whole", "pickle"])),
    st.one_of(st.none(), st.none(), st.none(), st.integers(0, 2**32 - 1)),
)


@made(0.06)
@given(several(tensors))
def test_tensors_that_claim_anything_are_answered(target, inputs):
    target.ask_all([(body, {"Content-Type": "application/x-npy"}) for body in inputs])


printable = st.characters(min_codepoint=0, max_codepoint=255, exclude_characters="\r\n")
parameters = st.lists(
    st.one_of(
        st.builds("{}={}".format, st.sampled_from(["q", "top_k", "explain", "verbose", "charset"]), numbers.map(str)),
        st.sampled_from(["verbose", "explain=true", "q=0", "top_k=2", "=", ";"]),
        st.text(printable, max_size=12),
    ),
    max_size=4,
)
media = st.builds(
    lambda name, rest: ";".join([name, *rest])[:4000],
    st.one_of(st.sampled_from([*TYPES, *ACCEPTS, "*/*", "application/*", ""]), st.text(printable, max_size=30)),
    parameters,
)
heads = st.fixed_dictionaries(
    {"Content-Type": media, "Accept": st.lists(media, max_size=3).map(",".join)},
    optional={
        "X-Amzn-SageMaker-Custom-Attributes": st.text(printable, max_size=30),
        "X-Amzn-SageMaker-Inference-Id": st.text(printable, max_size=80),
    },
).map(lambda given: {name: value.encode("latin-1") for name, value in given.items()})


@made(0.08)
@given(several(st.tuples(st.sampled_from([files[0] for _, files in FILES.values()]), heads)))
def test_headers_that_say_anything_are_answered(target, inputs):
    target.ask_all(inputs)
