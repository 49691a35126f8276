"""The speed of prediction by a compiled bfloat16 PyTorch network of the published shapes.

    python -m tests.parity.compiled_torch --batches=8,64 --output=torch.json

On a GPU, beside `rahf.bin.benchmark_predict` (launch/benchmark_gpu.sh runs both): ViT-B/16
at 384 pixels, T5-base and the `paper` heads, random weights, prompts of 32 pieces. What
sees the image is compiled by torch.compile; words are 32 greedy steps with transformers'
cache, which is not. Rates are printed with and without words.
"""

import argparse
import json
import statistics
import time

from tests.parity.speed import PIECES, SIDE


def _model(torch, device: str, side: int, small: bool):
    from transformers import T5Config, ViTConfig

    from tests.parity.torch_model import Release

    sizes = {"d_model": 768, "d_kv": 64, "num_heads": 12, "d_ff": 3072}
    vit, layers = {}, 12  # the defaults of ViTConfig are those of ViT-B/16
    if small:
        sizes = {"d_model": 64, "d_kv": 32, "num_heads": 2, "d_ff": 64}
        vit = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        layers = 1
    t5 = T5Config(
        num_layers=layers, decoder_start_token_id=0, dropout_rate=0.0, **sizes
    )
    vit = ViTConfig(image_size=side, **vit)
    return Release(vit, t5).eval().to(device).to(torch.bfloat16)


def _seen(model, torch):
    """Returns the function from images and prompts to heatmaps, scores and memory."""

    def run(images, inputs):
        pixels = images.permute(0, 3, 1, 2).to(torch.bfloat16) / 127.5 - 1
        tokens = model.visual_token_projection(model.vit(pixels).last_hidden_state)
        embedded = torch.cat([tokens, model.t5.shared(inputs)], dim=1)
        encoded = model.t5.encoder(inputs_embeds=embedded).last_hidden_state
        count = tokens.shape[1]
        places = encoded[:, 1:count].transpose(1, 2)
        places = places.unflatten(2, (model.grid, model.grid))
        heads = (*model.heatmap_predictor.items(), *model.score_predictor.items())
        return {name: head(places) for name, head in heads}, encoded[:, count:]

    return run


def _seconds(torch, device: str, run, repeats: int) -> float:
    """Returns the median time of a run, after two that are not counted."""
    found = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return statistics.median(found[2:])


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.parity.compiled_torch")
    parser.add_argument("--batches", default="8,64")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--output", help="a JSON file to write the rates to")
    parser.add_argument("--small", action="store_true", help="to try it on a CPU")
    args = parser.parse_args()
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 64 if args.small else SIDE
    model = _model(torch, device, side, args.small)
    seen = torch.compile(_seen(model, torch))
    rates = {}
    for batch in map(int, args.batches.split(",")):
        shape = (batch, side, side, 3)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        inputs = torch.randint(10, 32000, (batch, PIECES), device=device)
        runs = {
            "without words": lambda i=images, t=inputs: seen(i, t),
            "with words": lambda i=images, t=inputs: model.speak(seen(i, t)[1], PIECES),
        }
        for name, run in runs.items():
            with torch.inference_mode():
                rate = batch / _seconds(torch, device, run, args.repeats)
            rates[f"batch {batch} {name}"] = rate
            print(f"batch {batch}, {name}: {rate:.2f} images/s", flush=True)
    if args.output:
        about = {"torch": torch.__version__, "device": device, "images/s": rates}
        with open(args.output, "w", encoding="utf-8") as file:
            json.dump(about, file, indent=1)


if __name__ == "__main__":
    main()
