"""What the fixtures of CLIP and their tests share; numpy alone."""

import json
import pathlib

import numpy as np

from tests.parity import reference

IMAGE, PATCH, VOCABULARY, LENGTH = 12, 4, 60, 9
IMAGE_WIDTH, IMAGE_MLP, IMAGE_HEADS = 32, 48, 4
TEXT_WIDTH, TEXT_MLP, TEXT_HEADS = 24, 40, 3
DEPTH, EMBED = 2, 16
#: The largest token, and one that is not, as Hugging Face's configs may name either.
END, OTHER_END = VOCABULARY - 1, 7
#: (name, activation, eos_token_id): 2 is the old config's, which means the largest.
MODELS = (("quick", "quick_gelu", 2), ("exact", "gelu", OTHER_END))
#: A model of MODELS -> its end_id.
END_IDS = {"quick": None, "exact": OTHER_END}

TEXTS = [
    "a photo of a cat",
    "A Photo OF a CAT.",
    "",
    " ",
    "a red boat, left of a house; two birds!",
    "it's they'll we're I've don't o'clock 'tis",
    "IT'S THEY'LL WE'RE I'VE I'M I'D",
    "3 cats and 12345 dogs, 1.5 m",
    "snake_case and kebab-case and a/b\\c",
    "two  spaces,\ttab\nnewline\u00a0no-break\u2003em",
    "caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m A\u030angstr\u00f6m",
    "\u0130stanbul I\u0307 \u0131",
    "\u03a3\u0391\u03a3 \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2",
    "\u732b\u306e\u5199\u771f",
    "\uac15\uc544\uc9c0 \u1100\u1161",
    "\U0001f408 cat \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "\u00bd \u00b2 \u2163 \u0663 numbers",
    "((masterpiece)), [best quality], {8k}, <lora:x:0.8>",
    "\u201cquoted\u201d \u2018single\u2019 \u2014 dash \u2026",
    "<|startoftext|>a cat<|endoftext|>",
    "a <|endoftext|> b",
    "<|START|> <|endoftext",
    "&amp; &lt;b&gt; html",
    "x" * 300,
    "!!!???...;;;:::",
    "#hashtag @user http://example.com/a?b=c&d=e",
    "\u00e3\u00a9 mojibake \u00c3\u00a9",
    "zero\u200bwidth\ufeffbom",
    "\x00\x01 control \x7f",
    "a'b 'sun 'll 'x",
    "''s ''",
    "trailing space ",
    " leading space",
    "the the the the",
    "ALL CAPS HEADLINE: NEWS",
    "CamelCaseWords and iPhone15Pro",
    "na\u00efve r\u00f4le \u00fcber stra\u00dfe STRASSE \u1e9e",
    "\ufb01ne \ufb02ow ligatures",
    "\u037e greek question mark\u0387",
    "1girl, solo, 4k, f/1.8",
    "--ar 16:9 --v 5",
    "50% off $3.99 \u20ac5",
    "e=mc^2 x<y>z ~tilde~ `code`",
    "\u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940",
]
_COLOURS = ("red", "blue", "Green", "dark-grey", "ochre's", "#ff0000")
_THINGS = (
    "houses",
    "tree",
    "car2",
    "Boat",
    "\u00e9clair",
    "bird!",
    "ball?",
    "lamp\u2026",
)
TEXTS += [f"a {colour} {thing}" for colour in _COLOURS for thing in _THINGS]
TEXTS += [f"{i} {thing}, {i * 37}" for i in range(8) for thing in ("apples", "Pears")]


def inputs(end: int) -> dict[str, np.ndarray]:
    """Three images, normalised, and three texts, whose ends lie at different places."""
    generator = np.random.RandomState(3)
    images = generator.standard_normal((3, IMAGE, IMAGE, 3)).astype(np.float32)
    tokens = generator.randint(8, VOCABULARY - 1, (3, LENGTH)).astype(np.int32)
    marked = END if end == 2 else end
    for row, place in enumerate((4, 8, 6)):
        tokens[row, place] = marked
    tokens[0, 7] = marked  # a second end, as padding: the first counts
    return {"images": images, "tokens": tokens}


def _draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    weights = {}
    for name, shape in shapes.items():
        codes = reference.draw(name, shape)
        weights[name] = np.asarray(reference.weigh(name, codes), np.float32)
        is_norm = any(part in name for part in ("norm", "ln_", "layrnorm"))
        if is_norm and name.endswith("weight"):
            weights[name] = 1 + (codes.astype(np.float32) - 1.5) / 8
    weights["logit_scale"] = np.array(2.5, np.float32)
    return weights


def huggingface_weights() -> dict[str, np.ndarray]:
    """float32 weights by transformers' names."""
    shapes = {
        "logit_scale": (),
        "visual_projection.weight": (EMBED, IMAGE_WIDTH),
        "text_projection.weight": (EMBED, TEXT_WIDTH),
    }
    at = "vision_model.embeddings"
    shapes |= {
        f"{at}.class_embedding": (IMAGE_WIDTH,),
        f"{at}.patch_embedding.weight": (IMAGE_WIDTH, 3, PATCH, PATCH),
        f"{at}.position_embedding.weight": ((IMAGE // PATCH) ** 2 + 1, IMAGE_WIDTH),
        "text_model.embeddings.token_embedding.weight": (VOCABULARY, TEXT_WIDTH),
        "text_model.embeddings.position_embedding.weight": (LENGTH, TEXT_WIDTH),
    }
    norms = {"vision_model.pre_layrnorm": IMAGE_WIDTH}
    norms |= {"vision_model.post_layernorm": IMAGE_WIDTH}
    norms |= {"text_model.final_layer_norm": TEXT_WIDTH}
    linear = {}
    for prefix, width, mlp in (
        ("vision_model", IMAGE_WIDTH, IMAGE_MLP),
        ("text_model", TEXT_WIDTH, TEXT_MLP),
    ):
        for i in range(DEPTH):
            at = f"{prefix}.encoder.layers.{i}"
            norms |= {f"{at}.layer_norm1": width, f"{at}.layer_norm2": width}
            for part in "qkv":
                linear[f"{at}.self_attn.{part}_proj"] = (width, width)
            linear[f"{at}.self_attn.out_proj"] = (width, width)
            linear |= {f"{at}.mlp.fc1": (mlp, width), f"{at}.mlp.fc2": (width, mlp)}
    for name, width in norms.items():
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return _draw(shapes)


def openai_weights() -> dict[str, np.ndarray]:
    """The same weights by OpenAI's names."""
    theirs = huggingface_weights()
    found = {
        "logit_scale": theirs["logit_scale"],
        "text_projection": theirs["text_projection.weight"].T,
        "visual.proj": theirs["visual_projection.weight"].T,
    }
    embeddings = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    found |= {ours: theirs[name] for ours, name in embeddings.items()}
    modules = {
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        "ln_final": "text_model.final_layer_norm",
    }
    for prefix, tower in (("visual.", "vision_model"), ("", "text_model")):
        for i in range(DEPTH):
            at, name = (
                f"{prefix}transformer.resblocks.{i}",
                f"{tower}.encoder.layers.{i}",
            )
            modules |= {
                f"{at}.ln_1": f"{name}.layer_norm1",
                f"{at}.ln_2": f"{name}.layer_norm2",
                f"{at}.attn.out_proj": f"{name}.self_attn.out_proj",
                f"{at}.mlp.c_fc": f"{name}.mlp.fc1",
                f"{at}.mlp.c_proj": f"{name}.mlp.fc2",
            }
            for part in ("weight", "bias"):
                found[f"{at}.attn.in_proj_{part}"] = np.concatenate(
                    [theirs[f"{name}.self_attn.{q}_proj.{part}"] for q in "qkv"]
                )
    for ours, name in modules.items():
        found |= {f"{ours}.{p}": theirs[f"{name}.{p}"] for p in ("weight", "bias")}
    return {name: np.array(value, order="C") for name, value in found.items()}


def tokens_of(merges) -> dict[str, int]:
    """A vocabulary in the order of OpenAI's: bytes, bytes at a word's end, merges."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in shown] + [chr(256 + i) for i in range(68)]
    tokens = letters + [letter + "</w>" for letter in letters]
    tokens += ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: id_ for id_, token in enumerate(tokens)}


def write_vocabulary(folder: pathlib.Path, merges) -> None:
    """Writes vocab.json and merges.txt, as Hugging Face has them."""
    text = json.dumps(tokens_of(merges), ensure_ascii=False)
    (folder / "vocab.json").write_text(text, "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
