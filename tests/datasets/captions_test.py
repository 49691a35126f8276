"""Captions from shards and tables: shared out, shuffled, resumed, counted, mixed."""

import functools
import json
import shutil

import pytest

from configs import pretrain_captioning
from rahf.datasets import captions
from rahf.datasets.files.tar_shards import Shards
from rahf.images import limits
from rahf.input import loader as data_input
from rahf.input import registry, shard_stream
from rahf.input.registry import Task, find, register
from tests.input.loader_test import assert_equal, take, weights
from tests.support.captions_fixture import encoded, write_shard, write_shards

SAMPLES = 30  # of the train split: 5 shards of 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captions")
    write_shards(folder / "train", 5, 6)
    write_shards(folder / "dev", 2, 5, first=100)
    return folder


def make_config(folder, task="captions", batch_size=5, **options):
    config = pretrain_captioning.get_config()
    config.task.name = task
    config.input.update({"batch_size": batch_size, "image_size": 64, **options})
    config.input.captions.train = f"{folder}/train/{{000000..000004}}.tar"
    config.input.captions.dev = str(folder / "dev")
    config.input.captions.update(window=16, open_shards=2)
    return config


def shown(batch):
    """The numbers of the pictures in a batch."""
    pixels = batch["image"][:, 0, 0].astype(int)
    return (pixels[:, 0] + 256 * pixels[:, 1]).tolist()


_OPEN = []


@pytest.fixture(autouse=True)
def _closed():
    """Closes what a test has opened, and not before it ends.

    In Python 3.11 the cached properties of all of grain's iterators share a lock, so
    that one which is collected while another starts may wait for it for ever.
    """
    yield
    while _OPEN:
        _OPEN.pop().close()


def inputs(config, **shard):
    train_input = data_input.make_train_input(config, **shard)
    _OPEN.append(train_input)
    return train_input


def test_batches_of_captions(folder):
    batch = next(inputs(make_config(folder)))
    assert batch["image"].shape == (5, 64, 64, 3)
    assert weights(batch)["caption"] == 5
    assert sum(weights(batch).values()) == 5
    from rahf.input import vocabulary

    words = vocabulary.load("scenes")
    for number, ids in zip(shown(batch), batch["targets"]["caption"], strict=True):
        said = words.decode([int(i) for i in ids if i > 1])
        assert said == f"picture number {number}"


def test_an_epoch_holds_each_sample_once_and_epochs_differ(folder):
    config = make_config(folder)
    config.input.captions.update(open_shards=1, window=15)
    seen = [n for batch in take(inputs(config), 12) for n in shown(batch)]
    one, other = seen[:SAMPLES], seen[SAMPLES:]
    assert sorted(one) == sorted(other) == list(range(SAMPLES))
    assert one != other
    shards = [n // 6 for n in one]
    assert shards != sorted(shards)
    assert one[:15] != sorted(one[:15])


def test_samples_of_several_shards_mix(folder):
    config = make_config(folder)
    config.input.captions.update(open_shards=5, window=30)
    batches = take(inputs(config), 6)
    assert all(len({n // 6 for n in shown(batch)}) > 1 for batch in batches)
    assert sorted(n for b in batches for n in shown(b)) == list(range(SAMPLES))


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_never_read_the_same_sample(folder, hosts):
    seen = []
    for index in range(hosts):
        config = make_config(folder, batch_size=2 * hosts)
        train_input = inputs(config, shard_index=index, shard_count=hosts)
        # Two epochs of the larger parts, so that all are complete.
        batches = take(train_input, 2 * SAMPLES)
        assert all(len(batch["image"]) == 2 for batch in batches)
        seen.append({n for batch in batches for n in shown(batch)})
        train_input.close()
    assert set.union(*seen) == set(range(SAMPLES))
    assert sum(map(len, seen)) == SAMPLES


def test_one_shard_for_two_hosts(folder):
    config = make_config(folder, batch_size=4)
    config.input.captions.train = f"{folder}/train/000002.tar"
    seen = []
    for index in range(2):
        batches = take(inputs(config, shard_index=index, shard_count=2), 6)
        seen.append({n for batch in batches for n in shown(batch)})
    assert seen[0] | seen[1] == set(range(12, 18))
    assert not seen[0] & seen[1]


def test_too_small_for_its_readers(folder):
    shards = Shards((f"{folder}/train/000002.tar",), window=1)
    stream = iter(shard_stream.shuffled(shards, 0, shard_index=6, shard_count=7))
    assert "too small for so many" in next(stream).fault


@pytest.mark.parametrize("before", [0, 1, 4, 9])
def test_it_resumes_exactly(folder, before):
    config = make_config(folder)
    whole = take(inputs(config), before + 4)
    first = inputs(config)
    take(first, before)
    state = json.loads(json.dumps(first.get_state()))
    second = inputs(config)
    take(second, 2)  # where it stood does not matter
    second.set_state(state)
    for batch, expected in zip(take(second, 4), whole[before:], strict=True):
        assert_equal(batch, expected)


def test_another_batch_size_goes_on_with_the_next_sample(folder):
    whole = [n for batch in take(inputs(make_config(folder)), 5) for n in shown(batch)]
    found, state = [], None
    for size, number in ((5, 2), (3, 3), (6, 1)):
        source = inputs(make_config(folder, batch_size=size))
        if state is not None:
            source.set_state(json.loads(json.dumps(state)))
        found += [n for batch in take(source, number) for n in shown(batch)]
        state = source.get_state()
    assert found == whole


def test_a_window_of_large_images_holds_only_some(folder, monkeypatch):
    config = make_config(folder)
    expected = take(inputs(config), 8)
    size = len(encoded(0))
    monkeypatch.setattr(shard_stream, "WINDOW_BYTES", 3 * size)
    for batch, other in zip(take(inputs(config), 8), expected, strict=True):
        assert_equal(batch, other)
    urls = [str(path) for path in sorted((folder / "train").iterdir())]
    shards = Shards(tuple(urls), window=10, open_shards=1)
    stream = iter(shard_stream.shuffled(shards, 0))
    samples = [next(stream) for _ in range(10)]
    assert sum(bool(each.image) for each in samples) == 3
    assert [each.encoded() for each in samples] == [
        encoded(int(each.uid[-3:])) for each in samples
    ]


def test_worker_processes(folder):
    config = make_config(folder, workers=2)
    worker = inputs(config)
    try:
        batches = take(worker, 2)
        state = worker.get_state()
        following = take(worker, 2)
        worker.set_state(state)
        assert_equal(take(worker, 2), following)
        assert len({n for b in (*batches, *following) for n in shown(b)}) > 5
    finally:
        worker.close()


def test_the_order_depends_on_the_seed_alone(folder):
    config = make_config(folder)
    first, again = (shown(next(inputs(config))) for _ in range(2))
    config.seed = 1
    assert first == again != shown(next(inputs(config)))


def test_a_mixture_by_weight(folder):
    config = make_config(folder, "scenes_seven+captions", batch_size=14)
    config.input.scenes.train_examples = 20
    config.task.weights.captions = 7.0
    train_input = inputs(config)
    for batch in take(train_input, 2):
        assert weights(batch)["caption"] == 7
        assert sum(weights(batch).values()) == 14
    state = json.loads(json.dumps(train_input.get_state()))
    expected = next(train_input)
    train_input.set_state(state)
    assert_equal(next(train_input), expected)


def test_weights_without_shards():
    config = pretrain_captioning.get_config()
    config.input.batch_size, config.input.scenes.train_examples = 20, 20
    config.task.weights = {"scenes_captioning": 3.0}
    assert weights(next(inputs(config)))["caption"] == 6
    config.task.weights = {"scenes_captions": 2.0}
    with pytest.raises(
        ValueError, match=r"task.weights.scenes_captions=2.0 .* scenes_impl"
    ):
        inputs(config)
    config.task.weights = {"scenes_captioning": 0.0}
    with pytest.raises(ValueError, match=r"captioning=0.0 must be above 0"):
        inputs(config)
    with pytest.raises(ValueError, match=r"'captons' is unknown .* captions"):
        find("scenes_seven+captons")


def test_evaluation_reads_in_order(folder):
    config = make_config(folder)
    batches = data_input.make_eval_batches(
        config, split="dev", targets=("caption",), batch_size=4, examples=6
    )
    for _ in range(2):
        found = list(batches)
        assert [len(infos) for _, infos in found] == [4, 2]
        infos = [info for _, infos in found for info in infos]
        assert [info["prompt"] for info in infos] == [
            f"picture number {n}" for n in range(100, 106)
        ]
        assert infos[5]["uid"] == "000001/000000105"
    with pytest.raises(TypeError, match="number of examples in shards is unknown"):
        len(batches)
    config.input.captions.dev = ""
    with pytest.raises(ValueError, match=r"captions.dev is not set; expected tar sh"):
        data_input.make_eval_batches(config, split="dev", targets=("caption",))


def test_evaluation_of_a_mixture(folder):
    config = make_config(folder, "scenes_captioning+captions")
    batches = data_input.make_eval_batches(
        config, split="dev", targets=("caption",), batch_size=4, examples=3
    )
    infos = [info for _, infos in batches for info in infos]
    assert len(infos) == 6
    assert [info["uid"][:6] for info in infos] == ["000000"] * 3 + ["scenes"] * 3


@pytest.fixture
def damaged(folder, tmp_path):
    """As `folder`, but one image is no image, and a shard is cut short."""
    shutil.copytree(folder / "train", tmp_path / "train")
    change = lambda n, parts: parts | ({"jpg": b"not an image"} if n == 1 else {})
    write_shard(tmp_path / "train" / "000000.tar", 0, 6, change)
    path = tmp_path / "train" / "000003.tar"
    path.write_bytes(path.read_bytes()[:10_000])
    return tmp_path


def test_damage_stops_the_run(damaged):
    config = make_config(damaged)
    with pytest.raises(ValueError, match=r"record '0000.*(one of PNG|truncated)"):
        take(inputs(config), 12)


def test_damage_is_skipped_and_counted_up_to_a_share(damaged):
    config = make_config(damaged, bad_records="skip")
    train_input = inputs(config)
    batches = take(train_input, 18)  # 90 samples, more than three epochs
    assert all(weights(batch)["caption"] == 5 for batch in batches)
    seen = [n for batch in batches for n in shown(batch)]
    assert 1 not in seen and 23 not in seen and {0, 2, 18, 19} < set(seen)
    bad = train_input.metrics()["bad_records"]
    assert 4 <= bad <= 10  # two faults an epoch
    state = json.loads(json.dumps(train_input.get_state()))
    again = inputs(config)
    again.set_state(state)
    assert again.metrics()["bad_records"] == bad
    config.input.bad_share = 0.001
    with pytest.raises(ValueError, match="more than config.input.bad_share=0.001"):
        take(inputs(config), 18)


def test_a_table(tmp_path):
    for number in (0, 1, 2):
        (tmp_path / f"{number}.png").write_bytes(encoded(number))
    (tmp_path / "captions.csv").write_text(
        '\ufeffimage,caption\n0.png,none\n1.png,"one, and\nonly"\n2.png,two\n', "utf-8"
    )
    config = make_config(tmp_path, batch_size=3)
    config.input.captions.train = str(tmp_path)
    # Captions name colours and places, so their pictures stay as they are.
    config.input.augment.update(crop=0.5, flip=True, colour=0.5)
    for cache in (0, 10):
        config.input.cache = cache
        assert sorted(shown(next(inputs(config)))) == [0, 1, 2]
    config.input.captions.dev = str(tmp_path / "captions.csv")
    batches = data_input.make_eval_batches(config, split="dev", targets=("caption",))
    [(_, infos)] = list(batches)
    assert [info["prompt"] for info in infos] == ["none", "one, and\nonly", "two"]
    assert infos[1]["uid"] == "1.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image;caption\na;b\n",
            r"has no column 'image' or 'file_name'; it has image;c",
        ),
        ("image,caption\na.png,\n", r"line 2: 'image' and 'caption' must not be empty"),
        ("image,caption\na.png\n", r"line 2: expected 2 cells .*, got 1"),
        ("image,caption\na.png,red, left\n", r"line 2: expected 2 cells .*, got 3"),
        ("image,caption,image\na.png,red,b\n", r"'image' appears twice"),
        ("file_name,text\n", r"has no rows"),
        ("", r"it has none"),
    ],
)
def test_a_malformed_table(tmp_path, text, message):
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        captions.captions_records("train", {"captions": {"train": str(tmp_path)}})


def test_a_table_with_a_bad_image(tmp_path, monkeypatch):
    (tmp_path / "metadata.csv").write_text("file_name,text\nx.png,y\n")
    records = captions.captions_records("train", {"captions": {"train": str(tmp_path)}})
    with pytest.raises(ValueError, match=r"record 'x.png', field 'image': .*x.png"):
        records[0]
    assert "x.png: expected an image file" in records.sample(0).fault
    (tmp_path / "x.png").write_bytes(encoded(1))
    assert records.sample(0).image == encoded(1)
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    assert "x.png: expected an image file of at most" in records.sample(0).fault


def test_sources(tmp_path):
    find = lambda value: captions.find_source("dev", {"captions": {"dev": value}})
    name = find("tfds:coco_captions/2014:1.1.0@val[:10]")
    assert name == captions.TfdsName("coco_captions/2014:1.1.0", "val[:10]")
    assert find("tfds:mine").split == "dev"
    with pytest.raises(ValueError, match=r"captions.dev: '/none' matches no shard"):
        find("/none")
    (tmp_path / "captions.csv").write_text("image,caption\na.png,one\n")
    for several in ([str(tmp_path), "/other"], ["/a.tar", "tfds:mine"]):
        with pytest.raises(ValueError, match="must be the only source, got 2"):
            find(several)
    with pytest.raises(ValueError, match=r"'tfds:mine' needs .*loader='seqio'"):
        captions.captions_records("dev", {"captions": {"dev": "tfds:mine"}})
    with pytest.raises(ValueError, match="at least 1, got window=0"):
        Shards(("a.tar",), window=0)


def test_another_dataset_of_captions(folder, monkeypatch):
    # Other tests list what is registered.
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
    make = functools.partial(captions.captions_records, dataset="mine")
    register(Task("mine_captions", ("caption",), make))
    config = make_config(folder, "captions+mine_captions", batch_size=4)
    config.input.mine = {"train": str(folder / "dev")}
    config.task.weights = {"mine_captions": 3.0}
    numbers = [n for batch in take(inputs(config), 3) for n in shown(batch)]
    assert sum(n >= 100 for n in numbers) == 9
