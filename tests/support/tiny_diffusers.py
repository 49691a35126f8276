"""Pipelines of diffusers with some thousand parameters, made from configs, offline."""

import json
import pathlib
from typing import Any

import diffusers
import torch
import transformers

#: Side of their images in pixels.
SIDE = 32
_LENGTH = 16  # of prompts, in tokens
_WIDTH = 32  # of the text encoders


def write(folder: pathlib.Path, kind: str, **fields: Any) -> pathlib.Path:
    """Writes a pipeline as `save_pretrained` does, with drawn weights.

    Args:
      folder: the folder, which is returned.
      kind: a key of `KINDS`.
      **fields: see the function of the kind.
    """
    torch.manual_seed(0)
    pipe = KINDS[kind](_tokenizer(folder / "tokenizer"), **fields)
    pipe.save_pretrained(folder)
    return folder


def _tokenizer(folder: pathlib.Path):
    letters = [chr(code) for code in range(33, 127)]
    names = [*letters, *(f"{letter}</w>" for letter in letters)]
    names += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(
        json.dumps({name: number for number, name in enumerate(names)})
    )
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=_LENGTH)


def _clip(tokenizer, *, projects: bool = False):
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=_LENGTH,
        projection_dim=_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if projects:
        return transformers.CLIPTextModelWithProjection(config)
    return transformers.CLIPTextModel(config)


def _vae(channels: int = 4, **fields: Any):
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=SIDE,
        **fields,
    )


def _unet(channels: int, text_width: int, **fields: Any):
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=SIDE // 2,
        in_channels=channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width,
        norm_num_groups=4,
        **fields,
    )


def _euler():
    return diffusers.EulerAncestralDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
    )


def _stable_diffusion(tokenizer, *, channels: int = 4, scheduler=None):
    """With `channels` = 9, one that was made to inpaint."""
    kind = diffusers.StableDiffusionPipeline
    if channels == 9:
        kind = diffusers.StableDiffusionInpaintPipeline
    return kind(
        vae=_vae(),
        text_encoder=_clip(tokenizer),
        tokenizer=tokenizer,
        unet=_unet(channels, _WIDTH, attention_head_dim=4),
        scheduler=scheduler or _euler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _stable_diffusion_xl(tokenizer):
    unet = _unet(
        4,
        2 * _WIDTH,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + _WIDTH,
    )
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip(tokenizer),
        text_encoder_2=_clip(tokenizer, projects=True),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=_euler(),
    )


def _flow_vae(channels: int):
    return _vae(
        channels, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False
    )


def _stable_diffusion_3(tokenizer):
    """Without T5, as many run it."""
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIDE // 2,
        patch_size=1,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=2 * _WIDTH,
        pooled_projection_dim=2 * _WIDTH,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(16),
        text_encoder=_clip(tokenizer, projects=True),
        tokenizer=tokenizer,
        text_encoder_2=_clip(tokenizer, projects=True),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def _flux(tokenizer):
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=_WIDTH,
        pooled_projection_dim=_WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=_WIDTH,
        d_kv=8,
        d_ff=_WIDTH,
        num_layers=1,
        num_heads=4,
    )
    return diffusers.FluxPipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_flow_vae(4),
        text_encoder=_clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=transformers.T5EncoderModel(config),
        tokenizer_2=tokenizer,
    )


KINDS = {
    "stable_diffusion": _stable_diffusion,
    "stable_diffusion_xl": _stable_diffusion_xl,
    "stable_diffusion_3": _stable_diffusion_3,
    "flux": _flux,
}
