"""Compares the speed of prediction with that of a plain PyTorch network.

    python -m venv torchvenv
    torchvenv/bin/pip install torch==2.13.0 transformers==5.24.0
    python -m tests.parity.speed --torch_python=torchvenv/bin/python

ViT-B/16 at 384 pixels, T5-base, prompts of 32 pieces, seven targets, float32, random
weights, two threads, batches of 1 and 8. PyTorch's network has the published shapes:
the `paper` heads, ViT and T5 of transformers, 32 greedy steps with its cache. The
programs run alternately, each in a process of its own, so that whatever else the
machine does slows all of them; printed are medians, and medians of the ratios of each
round. Needs about 12 GB of memory and, with all programs, 15 minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

THREADS, PIECES, SIDE = 2, 32, 384
PROGRAMS = {  # variant and heads
    "paper": ("multihead", "paper"),
    "light": ("multihead", "light"),
    "augmented light": ("augmented", "light"),
}


def _serve(run) -> None:
    """Runs once for each line of standard input; prints wall and CPU seconds."""
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps([wall, cpu]), flush=True)


def _serve_torch(batch: int) -> None:
    import torch
    from transformers import T5Config, ViTConfig

    from tests.parity.torch_model import Release

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    vit = ViTConfig(image_size=SIDE)  # its defaults are those of ViT-B/16
    sizes = {"d_model": 768, "d_kv": 64, "num_heads": 12, "d_ff": 3072}
    t5 = T5Config(num_layers=12, decoder_start_token_id=0, dropout_rate=0.0, **sizes)
    model = Release(vit, t5).eval()
    images = torch.randint(0, 256, (batch, SIDE, SIDE, 3), dtype=torch.uint8)
    inputs = torch.randint(10, 32000, (batch, PIECES))

    def run():
        with torch.inference_mode():
            model.predict(images, inputs, PIECES)

    _serve(run)


def _serve_rahf(batch: int, program: str) -> None:
    import jax
    import numpy as np

    from configs import rahf_base, rahf_base_multihead
    from rahf.inference.predict_step import make_predict_prompts
    from rahf.models import passes
    from tests.support import tiny

    variant, heads = PROGRAMS[program]
    base = {"multihead": rahf_base_multihead, "augmented": rahf_base}[variant]
    c = base.get_config()
    c.model.dtype = "float32"
    c.model.heatmap_head.name = c.model.score_head.name = heads
    c.input.update(text_length=PIECES, target_length=PIECES)
    names = [name for name in c.task.targets if name != "word_presence"]
    params, rng = tiny.params(c), np.random.default_rng(0)
    pieces = rng.integers(10, 32000, (batch, PIECES), dtype=np.int32)
    pieces[:, -1] = 1
    count = len(passes.targets_of_prompts(c, names))
    given = {
        "image": rng.integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8),
        "inputs": np.stack([pieces] * count),
        "prompt": pieces,
        "word_ends": ((pieces > 1) & (rng.random(pieces.shape) < 0.7)).astype(np.int32),
    }
    step = make_predict_prompts(c, (5, 9), names)
    _serve(lambda: jax.block_until_ready(step(params, given)))


class _Server:
    """A program in a process of its own."""

    def __init__(self, python: str, program: str, batch: int):
        command = [python, "-m", "tests.parity.speed", "--serve", program]
        command += ["--batch", str(batch)]
        environment = os.environ | {
            "PYTHONPATH": os.getcwd(),
            "OMP_NUM_THREADS": str(THREADS),
            "JAX_PLATFORMS": "cpu",
        }
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout and self._process.stdin
        self._out, self._in = self._process.stdout, self._process.stdin
        if self._out.readline().strip() != "ready":
            sys.exit(f"{' '.join(command)} failed")

    def run(self) -> list[float]:
        self._in.write("\n")
        self._in.flush()
        return json.loads(self._out.readline())

    def close(self) -> None:
        self._in.close()
        self._process.wait()


def _compare(args, batch: int) -> None:
    names = args.programs.split(",")
    servers = {"PyTorch": _Server(args.torch_python, "torch", batch)}
    servers |= {name: _Server(sys.executable, name, batch) for name in names}
    seconds = {name: [] for name in servers}
    for _ in range(args.rounds):
        for name, server in servers.items():
            seconds[name].append([value / batch for value in server.run()])
    for server in servers.values():
        server.close()
    print(f"batch {batch}, {args.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for name, found in seconds.items():
        wall, cpu = (statistics.median(each) for each in zip(*found, strict=True))
        ratios = [
            theirs[0] / ours[0]
            for theirs, ours in zip(seconds["PyTorch"], found, strict=True)
        ]
        print(
            f"  {name:<16} {wall:6.2f} s an image, {cpu:6.2f} CPU-s, "
            f"{statistics.median(ratios):5.2f} times as fast as PyTorch "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.parity.speed")
    parser.add_argument("--torch_python", help="the python that has torch")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve == "torch":
        _serve_torch(args.batch)
    elif args.serve:
        _serve_rahf(args.batch, args.serve)
    else:
        if not args.torch_python:
            parser.error("--torch_python is needed")
        for batch in args.batches.split(","):
            _compare(args, int(batch))


if __name__ == "__main__":
    main()
