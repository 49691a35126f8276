"""Makes fixtures of CLIP: what PyTorch and transformers say of small random models.

    python -m venv torchvenv
    torchvenv/bin/pip install torch==2.14.1 transformers==5.24.0 tokenizers==0.23.3
    PYTHONPATH=. torchvenv/bin/python tests/parity/make_clip.py

Writes clip.npz, cosines, embeddings and gradients of two of transformers' models, with
and without the old end of text; clip_scripted.pt, a TorchScript archive of half precision
with the names of OpenAI's, and in clip.npz what it says; and clip_tokens.json, a small
vocabulary of byte pairs and how transformers' tokenizer reads odd texts by it.
"""

import json
import pathlib
import tempfile

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tests.parity import clip_reference, reference


def _config(activation: str, end: int) -> CLIPConfig:
    r = clip_reference
    return CLIPConfig(
        projection_dim=r.EMBED,
        vision_config={
            "hidden_size": r.IMAGE_WIDTH,
            "intermediate_size": r.IMAGE_MLP,
            "num_hidden_layers": r.DEPTH,
            "num_attention_heads": r.IMAGE_HEADS,
            "image_size": r.IMAGE,
            "patch_size": r.PATCH,
            "hidden_act": activation,
        },
        text_config={
            "hidden_size": r.TEXT_WIDTH,
            "intermediate_size": r.TEXT_MLP,
            "num_hidden_layers": r.DEPTH,
            "num_attention_heads": r.TEXT_HEADS,
            "vocab_size": r.VOCABULARY,
            "max_position_embeddings": r.LENGTH,
            "hidden_act": activation,
            "eos_token_id": end,
            "bos_token_id": 0,
            "pad_token_id": 1,
        },
    )


def _say(activation: str, end: int) -> dict[str, np.ndarray]:
    """What transformers' model says, and the gradients of its contrastive loss."""
    model = CLIPModel(_config(activation, end)).eval()
    weights = clip_reference.huggingface_weights()
    found = model.load_state_dict(
        {k: torch.from_numpy(v) for k, v in weights.items()}, strict=False
    )
    assert not found.unexpected_keys, found
    assert all("position_ids" in name for name in found.missing_keys), found
    inputs = clip_reference.inputs(end)
    pixels = torch.from_numpy(inputs["images"].transpose(0, 3, 1, 2).copy())
    pixels.requires_grad_()
    out = model(
        input_ids=torch.from_numpy(inputs["tokens"]).long(),
        pixel_values=pixels,
        return_loss=True,
    )
    out.loss.backward()
    said = {
        "logits": out.logits_per_image,
        "images": out.image_embeds,
        "texts": out.text_embeds,
        "loss": out.loss,
        "gradient_pixels": pixels.grad.permute(0, 2, 3, 1),
    }
    said = {name: value.detach().numpy() for name, value in said.items()}
    for name, parameter in model.named_parameters():
        said[f"gradient {name}"] = reference.sample(parameter.grad.numpy())
    return said


class _Block(nn.Module):
    """A pre-norm block whose parts are called as OpenAI's."""

    def __init__(self, width: int, heads: int, mlp: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, mlp), "c_proj": nn.Linear(mlp, width)}
        )

    def forward(self, x, mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class _Transformer(nn.Module):
    def __init__(self, width: int, heads: int, mlp: int):
        super().__init__()
        blocks = [_Block(width, heads, mlp) for _ in range(clip_reference.DEPTH)]
        self.resblocks = nn.ModuleList(blocks)

    def forward(self, x, mask):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class _Visual(nn.Module):
    def __init__(self):
        super().__init__()
        r = clip_reference
        self.conv1 = nn.Conv2d(3, r.IMAGE_WIDTH, r.PATCH, r.PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(r.IMAGE_WIDTH))
        count = (r.IMAGE // r.PATCH) ** 2 + 1
        self.positional_embedding = nn.Parameter(torch.zeros(count, r.IMAGE_WIDTH))
        self.ln_pre, self.ln_post = (nn.LayerNorm(r.IMAGE_WIDTH) for _ in range(2))
        self.transformer = _Transformer(r.IMAGE_WIDTH, r.IMAGE_HEADS, r.IMAGE_MLP)
        self.proj = nn.Parameter(torch.zeros(r.IMAGE_WIDTH, r.EMBED))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + self.positional_embedding
        x = self.transformer(self.ln_pre(x), None)
        return self.ln_post(x[:, 0]) @ self.proj


class _OpenAI(nn.Module):
    def __init__(self):
        super().__init__()
        r = clip_reference
        self.visual = _Visual()
        self.transformer = _Transformer(r.TEXT_WIDTH, r.TEXT_HEADS, r.TEXT_MLP)
        self.token_embedding = nn.Embedding(r.VOCABULARY, r.TEXT_WIDTH)
        self.positional_embedding = nn.Parameter(torch.zeros(r.LENGTH, r.TEXT_WIDTH))
        self.ln_final = nn.LayerNorm(r.TEXT_WIDTH)
        self.text_projection = nn.Parameter(torch.zeros(r.TEXT_WIDTH, r.EMBED))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.input_resolution = r.IMAGE

    def forward(self, images, tokens):
        x = self.token_embedding(tokens) + self.positional_embedding
        mask = torch.full((x.shape[1], x.shape[1]), -1e9).triu(1)
        x = self.ln_final(self.transformer(x, mask))
        texts = x[torch.arange(len(x)), tokens.argmax(1)] @ self.text_projection
        images = self.visual(images)
        images = images / images.norm(dim=1, keepdim=True)
        texts = texts / texts.norm(dim=1, keepdim=True)
        return self.logit_scale.exp() * images @ texts.T


def _script(path: pathlib.Path) -> dict[str, np.ndarray]:
    model = _OpenAI().eval()
    weights = clip_reference.openai_weights()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    model.half().float()  # what the file holds, computed in float32
    inputs = clip_reference.inputs(clip_reference.END)
    images = torch.from_numpy(inputs["images"].transpose(0, 3, 1, 2).copy())
    tokens = torch.from_numpy(inputs["tokens"]).long()
    with torch.no_grad():
        logits = model(images, tokens).numpy()
        traced = torch.jit.trace(model, (images, tokens))
    torch.jit.save(traced.half(), path)
    return {"logits": logits}


def _tokens() -> dict:
    """A vocabulary learned from the texts, and how the texts are read by it."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=800, end_of_word_suffix="</w>", show_progress=False
    )
    texts = clip_reference.TEXTS
    learner.train_from_iterator([text.lower() for text in texts * 3], trainer)
    merges = [list(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    with tempfile.TemporaryDirectory() as folder:
        clip_reference.write_vocabulary(pathlib.Path(folder), merges)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        ids = [tokenizer(text)["input_ids"] for text in texts]
    return {"merges": merges, "ids": ids}


if __name__ == "__main__":
    arrays = {}
    for name, activation, end in clip_reference.MODELS:
        said = _say(activation, end)
        arrays |= {f"{name} {key}": value for key, value in said.items()}
    said = _script(reference.FIXTURES / "clip_scripted.pt")
    arrays |= {f"scripted {key}": value for key, value in said.items()}
    np.savez_compressed(reference.FIXTURES / "clip.npz", **arrays)
    text = json.dumps(_tokens(), separators=(",", ":"))
    (reference.FIXTURES / "clip_tokens.json").write_text(text + "\n", "utf-8")
