"""Students of the paper's model: small enough to score a million images.

    python -m rahf.bin.distill --config=configs/rahf_student.py:mini --teacher=W \
        --workdir=W2 --images="shards/{00000..00099}.tar"

A multi-head model with light heads, in four sizes: `small` (ViT-S/16 and T5-small),
`medium` (half as many layers of width 384), `mini` (ViT-Ti/16 and a T5 of width 192), all
at 384 pixels, and `tiny` (`mini` at 256). docs/distill.md has what they cost beside ViT-B/16 and T5-base. Not trained
here: that needs a teacher of this size.
"""

from configs import rahf_base_multihead

#: Name -> pixels; the ViT's width, depth and heads; T5's width, width of a head, heads,
#: layers and width of the MLP.
SIZES = {
    "small": (384, (384, 12, 6), (512, 64, 8, 6, 2048)),
    "medium": (384, (384, 6, 6), (384, 64, 6, 4, 1536)),
    "mini": (384, (192, 12, 3), (192, 32, 6, 4, 512)),
    "tiny": (256, (192, 12, 3), (192, 32, 6, 4, 512)),
}


def get_config(arg: str = ""):
    """Returns the config; `arg` is a name of `SIZES`, "" for `small`."""
    name = arg or "small"
    if name not in SIZES:
        raise ValueError(f"--config=...:{name} is unknown; options: {', '.join(SIZES)}")
    c = rahf_base_multihead.get_config()
    pixels, (width, depth, heads), (embed, head, t5_heads, layers, mlp) = SIZES[name]
    c.input.image_size = pixels
    c.model.vit.update(width=width, depth=depth, mlp_dim=4 * width, num_heads=heads)
    c.model.t5.update(
        embed_dim=embed,
        head_dim=head,
        num_heads=t5_heads,
        mlp_dim=mlp,
        encoder_layers=layers,
        decoder_layers=layers,
    )
    c.model.score_head.name = "light"
    return c
