"""The reference run: augmented prompts on `scenes`, two commands, an hour in all.

    python -m rahf.bin.train --config=configs/scenes_multihead.py \
        --workdir=runs/scenes_multihead
    python -m rahf.bin.train --config=configs/scenes.py --workdir=runs/scenes \
        --config.init_from=runs/scenes_multihead

An augmented prompt teaches one target per pass, its multi-head twin all seven. So the
encoders learn to see in the twin, and to answer prompts here. README.md has times and
results.
"""

import ml_collections

TARGETS = (
    "implausibility",
    "misalignment",
    "plausibility",
    "alignment",
    "aesthetics",
    "overall",
    "misaligned_words",
)


def get_config(arg: str = ""):
    """Returns the config; it takes no `arg`."""
    if arg:
        raise ValueError(f"{arg!r} is unknown; this config takes no argument")
    c = ml_collections.ConfigDict()
    c.seed = 0
    c.training_steps = 5000
    # The workdir whose parameters a new run starts from ("" = fresh), and patterns of
    # the parameters that it may lack.
    c.init_from = ""
    c.init_expect_missing = ("heatmap_predictor_*", "score_predictor_*")
    # Weights of the stem's network, where it has one: "imagenet" for those of the extra
    # "pretrained", "" for a fresh one, or the path of a file (docs/weights.md).
    c.init_stem = "imagenet"

    c.task = task = ml_collections.ConfigDict()
    task.name = "scenes_seven"
    task.targets = TARGETS
    # How often each task of the mixture comes up; 1 if not given. A score teaches less
    # than a heatmap.
    task.weights = ml_collections.ConfigDict()
    task.weights.scenes_misaligned_words = 2.0
    task.weights.scenes_plausibility = 2.0
    task.weights.scenes_alignment = 3.0
    # Imported before `name` is looked up, when the loader is "seqio".
    task.modules = ("tasks.scenes",)

    c.input = i = ml_collections.ConfigDict()
    # "grain" needs no TensorFlow and serves the built-in tasks; "seqio" serves all
    # registered ones.
    i.loader = "grain"
    i.batch_size = 32
    i.image_size = 64
    i.text_length = 32  # pieces, including the augmented prefix and end of sequence
    i.target_length = 24
    i.vocabulary = "scenes"  # or the path of a SentencePiece model
    i.prompts = "whole"  # or "words", without punctuation, as in the PyTorch release
    i.workers = 0  # processes; 0 = a thread
    i.cache = 2000  # megabytes of finished records that each process keeps
    i.bad_records = "fail"  # or "skip" and count them,
    i.bad_share = 0.01  # up to this share
    # Augmentation of training records; 1, False and 0 leave them unchanged.
    i.augment = ml_collections.ConfigDict({"crop": 1.0, "flip": False, "colour": 0.0})
    i.scenes = ml_collections.ConfigDict()
    i.scenes.difficulty = "simple"  # or "full"
    i.scenes.train_examples = 100_000

    c.model = m = ml_collections.ConfigDict()
    m.variant = "augmented"
    m.dtype = "float32"  # compute dtype; parameters are float32
    m.dropout = 0.0
    m.remat = False
    m.remat_policy = "full"  # or "dots", which keeps more and computes less again
    m.scan_layers = False  # True: the time to compile does not grow with depth
    m.decoder_attends = "prompt"  # or "all"
    # Compares image and prompt piece by piece before T5 reads both. For training from
    # scratch; models that start from published weights do without.
    m.word_presence = True
    m.decoding = "constrained"  # to marking words of the prompt; or "free" and greedy
    m.vit = ml_collections.ConfigDict()
    m.vit.patch_size = 16
    m.vit.width = 128
    m.vit.stem = "convolutions"
    m.vit.depth = 1
    m.vit.mlp_dim = 256
    m.vit.num_heads = 4
    m.vit.class_token = True
    m.t5 = ml_collections.ConfigDict()
    m.t5.vocab_size = 512
    m.t5.gated = False
    m.t5.embed_dim = 128
    m.t5.head_dim = 32
    m.t5.num_heads = 4
    m.t5.mlp_dim = 256
    m.t5.encoder_layers = 4
    m.t5.decoder_layers = 1
    m.heatmap_head = ml_collections.ConfigDict({"name": "light", "width": 0})
    m.score_head = ml_collections.ConfigDict({"name": "light", "width": 0})

    c.optimizer = o = ml_collections.ConfigDict()
    o.name = "adamw"
    o.relative = True  # the learning rate is relative to each matrix's RMS
    o.b1 = 0.9
    o.b2 = 0.98
    o.weight_decay = 0.01
    o.clip_norm = 1.0
    o.stem_rate = 1.0  # the learning rate of the stem, relative to all else
    o.accumulation = 1  # parts that a batch is split into
    # Steps in a row that may have a loss or gradient that is not finite, and are then
    # not applied; 0 stops the run at the first one.
    o.skip_nonfinite = 0

    c.schedule = s = ml_collections.ConfigDict()
    s.name = "cosine"
    s.peak = 0.005
    s.warmup_steps = 200
    s.final_fraction = 0.02

    # By target. Most pixels of a heatmap are zero, so its mean squared error is a
    # twentieth of a score's, which in turn is far below the words' cross-entropy.
    c.loss_weights = ml_collections.ConfigDict(
        {
            "implausibility": 20.0,
            "misalignment": 20.0,
            "plausibility": 4.0,
            "alignment": 12.0,
            "aesthetics": 4.0,
            "overall": 4.0,
            "misaligned_words": 10.0,
        },
        type_safe=False,
    )

    c.sharding = ml_collections.ConfigDict()
    c.sharding.mesh = ml_collections.ConfigDict({"data": -1, "fsdp": 1, "model": 1})
    c.sharding.rules = (
        ("batch", ("data", "fsdp")),
        ("length", None),
        ("embed", "fsdp"),
        ("mlp", "model"),
        ("heads", "model"),
        ("joined_kv", "model"),
        ("kv", None),
        ("vocab", "model"),
        # Convolutions are not sharded: split along channels, with examples along fsdp
        # as well, XLA's partitioner gave wrong input gradients (jax 0.10.2, CPU mesh
        # 2x2x2: equal loss, gradient norm 24 % off).
        ("conv_in", None),
        ("conv_out", None),
        ("norm", None),
        ("relpos_buckets", None),
    )

    c.eval = ml_collections.ConfigDict()
    c.eval.every_steps = 1000
    c.eval.task = ""  # the task to evaluate on; "" = task.name
    c.eval.split = "dev"
    c.eval.batch_size = 64
    c.eval.examples = 256  # records of the split to measure; 0 = all

    c.checkpoint = ml_collections.ConfigDict()
    c.checkpoint.every_steps = 1000
    c.checkpoint.every_minutes = 15.0  # too, at the next logged step; 0 = off
    c.checkpoint.keep_latest = 2  # a fallback, should the newest be damaged
    c.checkpoint.keep_best = 1
    c.checkpoint.best_metric = "plausibility/plcc"  # higher is better
    c.checkpoint.keep_every = (
        0  # each that is a multiple of so many steps, too; 0 = off
    )

    c.log = ml_collections.ConfigDict()
    c.log.every_steps = 50
    c.log.examples = 3  # pictures for TensorBoard at each evaluation
    return c
