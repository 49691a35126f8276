"""Makes tests/fixtures: what PyTorch and transformers say of small random models.

    python -m venv torchvenv
    torchvenv/bin/pip install torch==2.13.0 transformers==5.23.0 sentencepiece pillow
    PYTHONPATH=. torchvenv/bin/python tests/parity/make_fixtures.py

Only remaking the fixtures needs PyTorch. With --full=DIR it writes the release's
architecture at its full size, with random weights, and what every layer says into DIR;
`python -m tests.parity.compare DIR`, where rahf is installed, imports it and prints
the largest difference at each.
"""

import argparse
import collections
import itertools
import json
import pathlib

import numpy as np
import torch
from torch.nn import functional
from transformers import T5Config, T5ForConditionalGeneration, ViTConfig
from transformers.models.t5.modeling_t5 import T5Attention

from tests.parity import reference, tokens
from tests.parity.torch_model import HEATMAPS, SCORES, Release, ScoreHead


def _vit(width, depth, mlp_dim, num_heads, image, patch):
    return ViTConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        intermediate_size=mlp_dim,
        num_attention_heads=num_heads,
        image_size=image,
        patch_size=patch,
    )


def _t5(embed_dim, head_dim, num_heads, mlp_dim, layers, vocabulary, **options):
    return T5Config(
        d_model=embed_dim,
        d_kv=head_dim,
        num_heads=num_heads,
        d_ff=mlp_dim,
        num_layers=layers,
        vocab_size=vocabulary,
        decoder_start_token_id=0,
        dropout_rate=0.0,
        **options,
    )


def _fill(model, seed: int = 0) -> dict[str, np.ndarray]:
    """Gives a model weights that a fixture can hold; returns their codes."""
    codes = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            name = _hub_name(name)
            codes[name] = reference.draw(name, tuple(parameter.shape), seed)
            parameter.copy_(torch.from_numpy(reference.weigh(name, codes[name])))
    return codes


def _hub_name(name: str) -> str:
    """transformers 5 names a ViT's layers anew; files keep the names of 4."""
    for new, old in (
        ("vit.layers.", "vit.encoder.layer."),
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ):
        if name.startswith("vit."):
            name = name.replace(new, old)
    return name


def make_release(folder: pathlib.Path) -> None:
    """Outputs and gradients of the whole model."""
    model = Release(
        _vit(**reference.VIT, image=reference.IMAGE, patch=reference.PATCH),
        _t5(**reference.T5, vocabulary=reference.VOCABULARY),
    ).eval()
    for seed in itertools.count():
        codes = _fill(model, seed)
        outputs, loss = _lose(model)
        moved = _rounding_moves(model)
        print(f"release, seed {seed}: rounding moves the gradient by {moved:.1e}")
        if moved < 1e-4:
            break
    spoken = model.speak(outputs["encoded"][:, outputs["tokens"].shape[1] :], 12)
    arrays = {f"out/{name}": x.detach().numpy() for name, x in outputs.items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:  # the pooler has none
            gradient = reference.sample(parameter.grad.numpy())
            arrays[f"gradient/{_hub_name(name)}"] = gradient
    np.savez_compressed(
        folder / "release.npz",
        **reference.pack(codes),
        **arrays,
        loss=loss.detach().numpy(),
        spoken=spoken.numpy().astype(np.int32),
    )


def _lose(model):
    """Outputs and loss; parameters get their gradients."""
    given = reference.inputs()
    ids = {name: torch.from_numpy(given[name]).long() for name in ("inputs", "said")}
    outputs = model(torch.from_numpy(given["image"]), ids["inputs"], ids["said"])
    loss = functional.cross_entropy(
        outputs["misaligned_words"].flatten(0, 1), ids["said"].flatten()
    )
    for names, key in ((HEATMAPS, "heatmap"), (SCORES, "score")):
        truth = torch.from_numpy(given[key])
        loss = loss + sum(functional.mse_loss(outputs[name], truth) for name in names)
    model.zero_grad()
    loss.backward()
    return outputs, loss


def _rounding_moves(model) -> float:
    """How far gradients move where weights differ in their last digits.

    Where an activation stands next to a ReLU's kink, machines that round differently
    have gradients that differ by a thousandth, and parity could not be told.
    """
    named = {n: p for n, p in model.named_parameters() if p.grad is not None}
    learned = list(named.values())
    groups = collections.defaultdict(list)
    for index, name in enumerate(named):
        groups[tuple(name.split(".")[:2])].append(index)
    weights = [p.detach().clone() for p in learned]
    before = [p.grad.clone() for p in learned]
    generator, most = torch.Generator().manual_seed(0), 0.0
    for _ in range(6):
        with torch.no_grad():
            for parameter, weight in zip(learned, weights, strict=True):
                noise = torch.randn(weight.shape, generator=generator)
                parameter.copy_(weight * (1 + 1e-6 * noise))
        _lose(model)
        for indices in groups.values():
            was, now = (
                torch.cat([of[i].flatten() for i in indices])
                for of in (before, [p.grad for p in learned])
            )
            most = max(most, float((now - was).norm() / was.norm()))
    with torch.no_grad():
        for parameter, weight, gradient in zip(learned, weights, before, strict=True):
            parameter.copy_(weight)
            parameter.grad.copy_(gradient)
    return most


def make_t5_1_1(folder: pathlib.Path) -> None:
    """T5 1.1: encoder and decoder, and the position buckets of both."""
    config = _t5(
        **reference.T5,
        vocabulary=reference.VOCABULARY,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,  # transformers 5: do not scale what goes out
    )
    config.tie_word_embeddings = False  # and have an output layer of its own
    model = T5ForConditionalGeneration(config).eval()
    model.set_input_embeddings(model.shared)  # one table, for both stacks
    codes = _fill(model)
    given = reference.inputs()
    said = torch.from_numpy(given["said"]).long()
    with torch.no_grad():
        encoded = model.encoder(torch.from_numpy(given["inputs"]).long())[0]
        start = torch.zeros_like(said[:, :1])
        shifted = torch.cat([start, said[:, :-1]], dim=1)
        logits = model(encoder_outputs=(encoded,), decoder_input_ids=shifted).logits
    distances = torch.arange(-300, 301)
    buckets = [
        T5Attention._relative_position_bucket(distances, bidirectional=both)
        for both in (True, False)
    ]
    np.savez_compressed(
        folder / "t5_1_1.npz",
        **reference.pack(codes),
        encoded=encoded.numpy(),
        logits=logits.numpy(),
        buckets=torch.stack(buckets).numpy().astype(np.int8),
    )


def make_score_head(folder: pathlib.Path) -> None:
    """A score head wide enough that its narrowest layer has two channels.

    That of the small release has one, and a norm over one channel leaves its sign.
    """
    model = ScoreHead(reference.SCORE_WIDTH, reference.IMAGE // reference.PATCH)
    codes = _fill(model)
    x = torch.from_numpy(reference.feature_map()).permute(0, 3, 1, 2)
    out = model(x)
    out.sum().backward()
    gradients = {
        f"gradient/{name}": reference.sample(parameter.grad.numpy())
        for name, parameter in model.named_parameters()
    }
    np.savez_compressed(
        folder / "score_head.npz",
        **reference.pack(codes),
        **gradients,
        out=out.detach().numpy(),
    )


def make_state_dict(folder: pathlib.Path) -> None:
    """A file of torch.save's own with all that a state dict may hold."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    linear = torch.nn.Linear(2, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.arange(6.0).reshape(3, 2))
        linear.bias.copy_(torch.arange(3.0))
    state = linear.state_dict()
    state["turned"] = base.T
    state["part"] = base[1:3, 2:5]
    state["tied"] = base
    state["parameter"] = torch.nn.Parameter(base[0].clone())
    state["scalar"] = torch.tensor(7)
    state["empty"] = torch.zeros(0, 3)
    for name in ("float16", "bfloat16", "float64", "int32", "uint8", "bool"):
        state[name] = torch.tensor([0, 1, 1, 0]).to(getattr(torch, name))
    torch.save(state, folder / "state_dict.pt")
    torch.save({"epoch": 3, "model": linear.state_dict()}, folder / "checkpoint.pt")


def make_full(folder: pathlib.Path) -> None:
    """The release at its full size, with random weights, and what each layer says."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = Release(
        _vit(1024, 24, 4096, 16, image=384, patch=16),
        _t5(768, 64, 12, 3072, 12, vocabulary=32_128),
    ).eval()
    generator = np.random.RandomState(0)
    given = {
        "image": generator.randint(0, 256, (1, 384, 384, 3)).astype(np.uint8),
        "inputs": generator.randint(3, 32_000, (1, 24)).astype(np.int32),
        "said": generator.randint(3, 32_000, (1, 24)).astype(np.int32),
    }
    said_by = {}

    def keep(name):
        def hook(module, _, output):
            first = output[0] if isinstance(output, tuple) else output
            said_by[name] = first.detach().numpy()

        return hook

    for i, layer in enumerate(model.vit.layers):
        layer.register_forward_hook(keep(f"vit/{i}"))
    for stack in ("encoder", "decoder"):
        for i, layer in enumerate(getattr(model.t5, stack).block):
            layer.register_forward_hook(keep(f"t5/{stack}/{i}"))
    with torch.no_grad():
        outputs = model(
            torch.from_numpy(given["image"]),
            torch.from_numpy(given["inputs"]).long(),
            torch.from_numpy(given["said"]).long(),
        )
    said_by |= {name: x.numpy() for name, x in outputs.items()}
    state = {_hub_name(name): x for name, x in model.state_dict().items()}
    torch.save(state, folder / "model.pt")
    np.savez(folder / "said.npz", **{f"in/{k}": v for k, v in given.items()}, **said_by)
    count = sum(x.numel() for x in model.parameters())
    print(f"{folder}: {count:,} parameters, {len(said_by)} layers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", type=pathlib.Path, metavar="DIR")
    flags = parser.parse_args()
    torch.set_num_threads(2)
    if flags.full:
        make_full(flags.full)
        return
    reference.FIXTURES.mkdir(exist_ok=True)
    for make in (make_release, make_t5_1_1, make_score_head, make_state_dict):
        make(reference.FIXTURES)
    found = tokens.make(reference.FIXTURES)
    (reference.FIXTURES / "tokens.json").write_text(
        json.dumps(found, ensure_ascii=False, indent=0), encoding="utf-8"
    )
    for path in sorted(reference.FIXTURES.iterdir()):
        print(f"{path.stat().st_size:>8} {path.name}")


if __name__ == "__main__":
    main()
