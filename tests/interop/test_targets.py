"""The trainers' own parsers read what is written: they yield the shares, and loaders that run draw them."""

import asyncio
import json
import math

import numpy as np
import pytest

from camel_jax.interop.options import Options
from camel_jax.interop.plan import Mixture, make_plan
from camel_jax.interop.targets import TARGETS

SHARES = {"web": 0.6123456, "code": 0.25, "books": 0.1376544}
DRAWS = 100_000


def written(name, tokens=1e9, paths=None, **options):
    mixture = Mixture(SHARES, tokens, supply=options.pop("supply", {}))
    plan = make_plan(mixture, TARGETS[name].lattice)
    return plan, TARGETS[name].write(plan, Options(paths or {}, **options))


def within_sampling_error(counts, shares, draws):
    for name, share in shares.items():
        assert abs(counts[name] - draws * share) < 5 * math.sqrt(draws * share * (1 - share)), name


def test_olmo_core(tmp_path):
    module = pytest.importorskip("olmo_core.data.source_mixture", exc_type=ImportError)
    yaml = pytest.importorskip("yaml")
    types = pytest.importorskip("olmo_core.data.types", exc_type=ImportError)
    paths = {}
    for name in SHARES:
        np.arange(300_000, dtype=np.uint16).tofile(tmp_path / f"{name}.npy")
        paths[name] = (str(tmp_path / f"{name}.npy"),)
    plan, text = written("olmo-core", 100_000, paths, batch_tokens=1024)
    config = module.SourceMixtureDatasetConfig.from_dict(yaml.safe_load(text))
    config.render_tables = False
    config.validate()
    assert {s.source_name: s.target_ratio for s in config.source_list.sources} == plan.shares
    built = config.build(npdtype=types.NumpyDatasetDType.uint16.as_np_dtype(), sequence_length=16)
    got = {outcome.name: sum(item.tokens for item in outcome.path_tokens) for outcome in built.sources}
    for name, share in plan.shares.items():
        assert abs(got[name] / sum(got.values()) - share) < 2e-3  # whole sequences of sixteen tokens, and whole steps


@pytest.mark.parametrize("name", ["megatron", "nemo"])
def test_megatron_blend(name):
    utils = pytest.importorskip("megatron.core.datasets.utils", exc_type=ImportError)
    plan, text = written(name)
    blend = text.split()  # as --data-args-path reads its file
    if name == "nemo":
        blend = pytest.importorskip("yaml").safe_load(text)["data"]["paths"]
    prefixes, weights = utils.get_blend_from_list(blend)
    assert prefixes == list(plan.domains)
    np.testing.assert_allclose(utils.normalize(weights), list(plan.shares.values()), rtol=1e-12)


def test_megatron_draws():
    utils = pytest.importorskip("megatron.core.datasets.utils", exc_type=ImportError)
    plan, text = written("megatron")
    _, weights = utils.get_blend_from_list(text.split())
    weights = np.array(utils.normalize(weights))
    drawn = np.zeros(3, int)  # the rule of its helpers: each sample goes to the dataset that is farthest behind
    try:
        from megatron.core.datasets import helpers_cpp  # pyright: ignore[reportMissingImports]

        index, sample = np.zeros(DRAWS, np.int16), np.zeros(DRAWS, np.int64)
        helpers_cpp.build_blending_indices(index, sample, weights, 3, DRAWS, False)
        drawn = np.bincount(index, minlength=3)
    except ImportError:
        for i in range(DRAWS):
            drawn[np.argmax(weights * max(i, 1) - drawn)] += 1
    np.testing.assert_allclose(drawn / DRAWS, list(plan.shares.values()), atol=2 / DRAWS)


def test_levanter():
    text_module = pytest.importorskip("levanter.data.text", exc_type=ImportError)
    draccus = pytest.importorskip("draccus")
    yaml = pytest.importorskip("yaml")
    plan, text = written("levanter", paths={"web": ("gs://bucket/web-*.jsonl.gz",)})
    config = draccus.decode(text_module.LmDataConfig, yaml.safe_load(text)["data"])
    assert config.train_weights == plan.shares and config.mixture_block_size == 2048
    assert config.components["web"].source.train_urls == ["gs://bucket/web-*.jsonl.gz"]


def test_levanter_draws():
    """Its own mixture of toy datasets: every block holds the shares exactly, and so do 49 blocks."""
    mixtures = pytest.importorskip("levanter.data.mixture", exc_type=ImportError)
    lists = pytest.importorskip("levanter.data.dataset", exc_type=ImportError)
    plan, text = written("levanter")
    section = pytest.importorskip("yaml").safe_load(text)["data"]
    toy = {name: lists.ListAsyncDataset([name] * DRAWS) for name in section["components"]}
    mixed = mixtures.MixtureDataset(toy, section["train_weights"], section["mixture_block_size"], key=0)
    drawn = asyncio.run(mixed.get_batch(range(49 * 2048)))
    assert {name: drawn.count(name) for name in plan.domains} == dict(
        zip(plan.domains, (49 * count for count in plan.counts), strict=True)
    )


def test_levanter_blocks():
    """Each block holds whole sequences: shares in parts of the block are met in every one of them."""
    plan, _ = written("levanter")
    block = [share * plan.lattice for share in plan.shares.values()]
    assert all(count == int(count) for count in block) and sum(block) == 2048


def test_mosaicml(tmp_path):
    streaming = pytest.importorskip("streaming", exc_type=ImportError)
    yaml = pytest.importorskip("yaml")
    paths = {}
    for name in SHARES:
        folder = tmp_path / name
        with streaming.MDSWriter(out=str(folder), columns={"source": "str"}) as writer:
            for _ in range(2000):
                writer.write({"source": name})
        paths[name] = (str(folder),)
    plan, text = written("mosaicml", DRAWS * 10, paths, sequence_length=10)
    section = yaml.safe_load(text)["train_dataset"]
    assert section["epoch_size"] == DRAWS
    streams = [streaming.Stream(**one) for one in section["streams"]]
    data = streaming.StreamingDataset(streams=streams, epoch_size=section["epoch_size"], batch_size=8)
    np.testing.assert_allclose([stream.proportion for stream in streams], list(plan.shares.values()), rtol=1e-12)
    chosen = dict(zip(plan.domains, (stream.choose for stream in streams), strict=True))
    assert len(data) == DRAWS
    within_sampling_error(chosen, plan.shares, DRAWS)


def test_huggingface_draws():
    datasets = pytest.importorskip("datasets")
    plan, text = written("huggingface")
    section = json.loads(text)
    assert [one["name"] for one in section["datasets"]] == list(plan.domains)
    toy = [datasets.Dataset.from_dict({"source": [one["name"]] * DRAWS}) for one in section["datasets"]]
    mixed = datasets.interleave_datasets(
        toy, probabilities=section["probabilities"], seed=0, stopping_strategy=section["stopping_strategy"]
    )
    drawn = mixed.select(range(DRAWS))["source"][:]
    within_sampling_error({name: drawn.count(name) for name in plan.domains}, plan.shares, DRAWS)


def test_torchtitan_draws():
    module = pytest.importorskip("torchtitan.hf_datasets.interleaved", exc_type=ImportError)
    data = pytest.importorskip("torch.utils.data", exc_type=ImportError)
    plan, text = written("torchtitan")
    sources = json.loads(text)["sources"]

    class Toy(data.IterableDataset):
        def __init__(self, name):
            self.name, self.infinite = name, True

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

        def __iter__(self):
            while True:
                yield self.name

    mixed = iter(
        module.InterleavedDataset(
            datasets=[Toy(s["dataset"]) for s in sources], weights=[s["weight"] for s in sources], seed=0
        )
    )
    drawn = [next(mixed) for _ in range(DRAWS)]
    within_sampling_error({name: drawn.count(name) for name in plan.domains}, plan.shares, DRAWS)


def test_torchtitan_config():
    module = pytest.importorskip("torchtitan.hf_datasets.text_datasets", exc_type=ImportError)
    plan, text = written("torchtitan")
    section = json.loads(text)
    sources = [module.HFDataSource(**one) for one in section["sources"]]
    config = module.InterleavedHuggingFaceTextDataLoader.Config(
        sources=sources, stopping_strategy=section["stopping_strategy"]
    )
    assert [source.weight for source in config.sources] == list(plan.shares.values())


def test_axolotl(tmp_path):
    schema = pytest.importorskip("axolotl.utils.schemas.datasets", exc_type=ImportError)
    yaml = pytest.importorskip("yaml")
    supply = {"web": 2e8, "code": 1e9, "books": 1e9}
    documents = {"web": 1000, "code": 5000, "books": 3000}
    plan, text = written("axolotl", supply=supply, documents=documents)
    entries = [schema.SFTDataset(**one) for one in yaml.safe_load(text)["datasets"]]
    datasets = pytest.importorskip("datasets")
    rows = dict.fromkeys(SHARES, 0)
    for entry in entries:
        file = tmp_path / f"{entry.path}.jsonl"
        file.write_text('{"text": "x"}\n' * documents[entry.path])
        rows[entry.path] += len(
            datasets.load_dataset("json", data_files=str(file), split=entry.split, cache_dir=str(tmp_path / "c"))
        )
    tokens = {name: rows[name] * supply[name] / documents[name] for name in rows}
    for name, share in plan.shares.items():
        assert (
            0 <= share * 1e9 - tokens[name] <= supply[name] / documents[name] + 1
        )  # whole documents, never one too many
